"""CLIP as modules of PyTorch alone (Radford et al. 2021, section 2.4), with the names of transformers' checkpoints; MetaCLIP 2
(Chuang et al. 2025) is the same network.

transformers has the same model, but importing it takes longer than all else that a small run does, and it computes what no
embedding needs.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import CLIPConfig, CLIPTextConfig, CLIPVisionConfig

END_IS_HIGHEST = 2  # an eos_token_id of checkpoints older than transformers 4.31: it stands for the highest token


def quick_gelu(inputs: Tensor) -> Tensor:
    """Approximate GELU as the first CLIPs do (Hendrycks and Gimpel 2016, section 2)."""
    return inputs * torch.sigmoid(1.702 * inputs)


ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "quick_gelu": quick_gelu,
    "gelu": F.gelu,
    "gelu_pytorch_tanh": partial(F.gelu, approximate="tanh"),
}


class _Empty:
    def reset_parameters(self) -> None:
        """Leave the weights empty: a checkpoint has them. On the meta device, random ones would import torch's compiler."""


class Linear(_Empty, nn.Linear):
    """A linear layer."""


class Convolution(_Empty, nn.Conv2d):
    """A convolution of pictures."""


class Embedding(_Empty, nn.Embedding):
    """A vector for each number."""


class Attention(nn.Module):
    """Multi-head attention of tokens to each other, or (causal) to themselves and those before them."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        if heads < 1 or width % heads:
            raise ValueError(f"hidden_size {width} is no multiple of num_attention_heads {heads}")
        self.head_dim = width // heads
        self.q_proj, self.k_proj, self.v_proj, self.out_proj = (Linear(width, width) for _ in range(4))

    def forward(self, tokens: Tensor, wanted: int, causal: bool) -> Tensor:
        """Return (N, wanted, W) for the first `wanted` of tokens (N, T, W)."""

        def heads(projected: Tensor) -> Tensor:
            return projected.view(*projected.shape[:2], -1, self.head_dim).transpose(1, 2)

        queries, keys, values = (heads(part(tokens)) for part in (self.q_proj, self.k_proj, self.v_proj))
        # All tokens are queries: with one query an image, the last bits would depend on the image's place in the batch.
        attended = F.scaled_dot_product_attention(queries, keys, values, is_causal=causal)
        output: Tensor = self.out_proj(attended[:, :, :wanted].transpose(1, 2).flatten(2))
        return output


class Mlp(nn.Module):
    """The two linear layers behind an attention."""

    def __init__(self, width: int, inner: int, activation: str) -> None:
        super().__init__()
        if activation not in ACTIVATIONS:
            raise ValueError(f"hidden_act {activation!r} instead of {' or '.join(ACTIVATIONS)}")
        self.activation = ACTIVATIONS[activation]
        self.fc1, self.fc2 = Linear(width, inner), Linear(inner, width)

    def forward(self, tokens: Tensor) -> Tensor:
        output: Tensor = self.fc2(self.activation(self.fc1(tokens)))
        return output


class Layer(nn.Module):
    """Attention and MLP, each behind its normalisation and beside a shortcut."""

    def __init__(self, config: CLIPTextConfig | CLIPVisionConfig) -> None:
        super().__init__()
        width, eps = config.hidden_size, config.layer_norm_eps
        self.self_attn = Attention(width, config.num_attention_heads)
        self.layer_norm1, self.layer_norm2 = nn.LayerNorm(width, eps=eps), nn.LayerNorm(width, eps=eps)
        self.mlp = Mlp(width, config.intermediate_size, config.hidden_act)

    def forward(self, tokens: Tensor, wanted: int, causal: bool) -> Tensor:
        """Return (N, wanted, W) for the first `wanted` of tokens (N, T, W)."""
        tokens = tokens[:, :wanted] + self.self_attn(self.layer_norm1(tokens), wanted, causal)
        output: Tensor = tokens + self.mlp(self.layer_norm2(tokens))
        return output


class Encoder(nn.Module):
    """The layers of a tower."""

    def __init__(self, config: CLIPTextConfig | CLIPVisionConfig) -> None:
        super().__init__()
        self.layers = nn.ModuleList(Layer(config) for _ in range(config.num_hidden_layers))

    def forward(self, tokens: Tensor, wanted: int, *, causal: bool = False) -> Tensor:
        """Return (N, wanted, W) for the first `wanted` of tokens (N, T, W); the last layer computes no others."""
        *layers, last = self.layers
        for layer in layers:
            tokens = layer(tokens, tokens.shape[1], causal)
        output: Tensor = last(tokens, wanted, causal)
        return output


class VisionEmbeddings(nn.Module):
    """Patches as tokens behind the class token (Dosovitskiy et al. 2021, equation 1)."""

    def __init__(self, config: CLIPVisionConfig) -> None:
        super().__init__()
        width, patch = config.hidden_size, config.patch_size
        self.class_embedding = nn.Parameter(torch.empty(width))
        self.patch_embedding = Convolution(config.num_channels, width, kernel_size=patch, stride=patch, bias=False)
        self.position_embedding = Embedding((config.image_size // patch) ** 2 + 1, width)

    def forward(self, images: Tensor) -> Tensor:
        """Return (N, T, W) for (N, 3, H, W)."""
        patches = self.patch_embedding(images).flatten(2).transpose(1, 2)
        tokens = torch.cat([self.class_embedding.expand(images.shape[0], 1, -1), patches], 1)
        return tokens + self.position_embedding.weight


class VisionTransformer(nn.Module):
    """The image tower up to the class token that its embedding is projected from.

    prompts: (V, W), further tokens of every image, of a checkpoint that `tagger train prompts-dapt` wrote (VPT: Jia et al. 2022).
    """

    prompts: nn.Parameter | None

    def __init__(self, config: CLIPVisionConfig) -> None:
        super().__init__()
        width, eps = config.hidden_size, config.layer_norm_eps
        self.embeddings, self.encoder = VisionEmbeddings(config), Encoder(config)
        self.pre_layrnorm, self.post_layernorm = nn.LayerNorm(width, eps=eps), nn.LayerNorm(width, eps=eps)
        self.register_parameter("prompts", None)

    def forward(self, images: Tensor, prompts: Tensor | None = None) -> Tensor:
        """Return (N, W) for normalised images (N, 3, H, W), with these prompts (V, W), if any, in the place of the own ones."""
        tokens, prompts = self.embeddings(images), self.prompts if prompts is None else prompts
        if prompts is not None:
            tokens = torch.cat([tokens, prompts.expand(images.shape[0], -1, -1)], 1)
        output: Tensor = self.post_layernorm(self.encoder(self.pre_layrnorm(tokens), 1)[:, 0])
        return output


class TextEmbeddings(nn.Module):
    """What tokens and their places begin as."""

    def __init__(self, config: CLIPTextConfig) -> None:
        super().__init__()
        self.token_embedding = Embedding(config.vocab_size, config.hidden_size)
        self.position_embedding = Embedding(config.max_position_embeddings, config.hidden_size)

    def forward(self, ids: Tensor, context: Tensor | None) -> Tensor:
        """Return (N, T, W) for int64 (N, T), with the context (M, W) in the place of the M tokens behind the first."""
        tokens: Tensor = self.token_embedding(ids)
        if context is not None:
            tokens = torch.cat([tokens[:, :1], context.expand(len(ids), -1, -1), tokens[:, 1 + len(context) :]], 1)
        return tokens + self.position_embedding.weight[: ids.shape[1]]


class TextTransformer(nn.Module):
    """The text tower up to the end token that an embedding is projected from."""

    def __init__(self, config: CLIPTextConfig) -> None:
        super().__init__()
        if not isinstance(config.eos_token_id, int):
            raise ValueError(f"eos_token_id {config.eos_token_id} instead of a number")
        self.end = config.eos_token_id
        self.end_is_highest = self.end == END_IS_HIGHEST and config.model_type == "clip_text_model"  # MetaCLIP 2's is really 2
        self.embeddings, self.encoder = TextEmbeddings(config), Encoder(config)
        self.final_layer_norm = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)

    def forward(self, ids: Tensor, context: Tensor | None = None) -> Tensor:
        """Return (N, W) for int64 (N, T) and a context (M, W): what stands at the first end token, which sees none behind it."""
        output = self.final_layer_norm(self.encoder(self.embeddings(ids, context), ids.shape[1], causal=True))
        ends = ids if self.end_is_highest else (ids == self.end).int()
        pooled: Tensor = output[torch.arange(len(ids), device=ids.device), ends.argmax(1)]
        return pooled


class Clip(nn.Module):
    """Both towers, their projections and the logarithm of the logits' scale.

    The weights are empty. ValueError for a configuration that is none of a CLIP.
    """

    def __init__(self, config: CLIPConfig) -> None:
        super().__init__()
        text, vision = config.text_config, config.vision_config
        self.text_model, self.vision_model = TextTransformer(text), VisionTransformer(vision)
        self.text_projection = Linear(text.hidden_size, config.projection_dim, bias=False)
        self.visual_projection = Linear(vision.hidden_size, config.projection_dim, bias=False)
        self.logit_scale = nn.Parameter(torch.empty(()))
