"""SigLIP as modules of PyTorch alone (Zhai et al. 2023), with the names of transformers' checkpoints; SigLIP 2 of one resolution
(Tschannen et al. 2025) is the same network.

Its layers are CLIP's. The image tower has no class token: a learned query attends to all patches (Zhai et al. 2022, section 3.3).
The text tower is not causal, and its embedding is made of the last token, whatever it is.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tagger.encoders.clip_model import Convolution, Embedding, Encoder, Linear, Mlp, TextEmbeddings

if TYPE_CHECKING:
    from transformers import SiglipConfig, SiglipTextConfig, SiglipVisionConfig


class PatchEmbeddings(nn.Module):
    """Patches as tokens."""

    def __init__(self, config: SiglipVisionConfig) -> None:
        super().__init__()
        width, patch = config.hidden_size, config.patch_size
        self.patch_embedding = Convolution(config.num_channels, width, kernel_size=patch, stride=patch)
        self.position_embedding = Embedding((config.image_size // patch) ** 2, width)

    def forward(self, images: Tensor) -> Tensor:
        """Return (N, T, W) for (N, 3, H, W)."""
        patches: Tensor = self.patch_embedding(images).flatten(2).transpose(1, 2)
        return patches + self.position_embedding.weight


class QueryAttention(nn.Module):
    """Attention of one learned query to the tokens, with the weights' names of nn.MultiheadAttention."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.in_proj_weight, self.in_proj_bias = nn.Parameter(torch.empty(3 * width, width)), nn.Parameter(torch.empty(3 * width))
        self.out_proj = Linear(width, width)

    def forward(self, query: Tensor, tokens: Tensor) -> Tensor:
        """Return (N, W) for a query (W,) and tokens (N, T, W).

        Written out, as a matrix product with one query an image has last bits that depend on the image's place in the batch.
        """
        width = len(query)
        weight, bias = self.in_proj_weight, self.in_proj_bias
        queries = F.linear(query, weight[:width], bias[:width]).view(self.heads, -1)
        keys, values = F.linear(tokens, weight[width:], bias[width:]).view(*tokens.shape[:2], 2, self.heads, -1).unbind(2)
        shares = ((keys * queries).sum(-1) * queries.shape[1] ** -0.5).softmax(1)
        output: Tensor = self.out_proj((shares[..., None] * values).sum(1).flatten(1))
        return output


class PoolingHead(nn.Module):
    """What a query finds in the tokens, behind an MLP with a shortcut."""

    def __init__(self, config: SiglipVisionConfig) -> None:
        super().__init__()
        width = config.hidden_size
        self.probe = nn.Parameter(torch.empty(1, 1, width))
        self.attention = QueryAttention(width, config.num_attention_heads)
        self.layernorm = nn.LayerNorm(width, eps=config.layer_norm_eps)
        self.mlp = Mlp(width, config.intermediate_size, config.hidden_act)

    def forward(self, tokens: Tensor) -> Tensor:
        """Return (N, W) for tokens (N, T, W)."""
        found = self.attention(self.probe[0, 0], tokens)
        output: Tensor = found + self.mlp(self.layernorm(found))
        return output


class SiglipVision(nn.Module):
    """The image tower, its head included."""

    def __init__(self, config: SiglipVisionConfig) -> None:
        super().__init__()
        if not config.vision_use_head:
            raise ValueError("vision_use_head false instead of true")
        self.embeddings, self.encoder = PatchEmbeddings(config), Encoder(config)
        self.post_layernorm = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)
        self.head = PoolingHead(config)

    def forward(self, images: Tensor) -> Tensor:
        """Return (N, W) for normalised images (N, 3, H, W)."""
        tokens = self.embeddings(images)
        output: Tensor = self.head(self.post_layernorm(self.encoder(tokens, tokens.shape[1])))
        return output


class SiglipTextTransformer(nn.Module):
    """The text tower, its head included."""

    def __init__(self, config: SiglipTextConfig) -> None:
        super().__init__()
        self.embeddings, self.encoder = TextEmbeddings(config), Encoder(config)
        self.final_layer_norm = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)
        self.head = Linear(config.hidden_size, config.projection_size)

    def forward(self, ids: Tensor) -> Tensor:
        """Return (N, D) for int64 (N, T), T as long as the model reads."""
        tokens = self.encoder(self.embeddings(ids, None), ids.shape[1])
        output: Tensor = self.head(self.final_layer_norm(tokens[:, -1]))
        return output


class Siglip(nn.Module):
    """Both towers, the logarithm of the logits' scale, and their bias.

    The bias is the same for all labels, so that a softmax over them does not see it. The weights are empty. ValueError for a
    configuration that is none of a SigLIP.
    """

    def __init__(self, config: SiglipConfig) -> None:
        super().__init__()
        if (text := config.text_config.projection_size) != (width := config.vision_config.hidden_size):
            raise ValueError(f"embeddings of {text} numbers for text and {width} for images")
        self.text_model, self.vision_model = SiglipTextTransformer(config.text_config), SiglipVision(config.vision_config)
        self.visual_projection = nn.Identity()  # the head has it
        self.logit_scale, self.logit_bias = nn.Parameter(torch.empty(1)), nn.Parameter(torch.empty(1))
