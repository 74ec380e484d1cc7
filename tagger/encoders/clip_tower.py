"""CLIP's image tower, from pixels to embeddings: transformers' layers and weights, computing only what the embedding needs."""

from __future__ import annotations

import copy
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tagger.core.types import Preprocessing
from tagger.encoders.normalise import Normalise

Transformers = Any  # a module of transformers, whose types are not checked (pyproject.toml)


class ImageTower(nn.Module):
    """Compute the image tower of Radford et al. 2021 (section 2.4; Dosovitskiy et al. 2021, equations 1 to 4), with the
    normalisation of its input and of its output.

    The embedding is made of the class token alone. After its attention the last layer therefore computes that token only, which
    saves a sixteenth of the work of ViT-B/32.
    """

    def __init__(
        self, transformer: Transformers, projection: nn.Module, preprocessing: Preprocessing, dtype: torch.dtype
    ) -> None:
        super().__init__()
        self.transformer, self.projection = transformer.to(dtype), projection.to(dtype)
        self.preprocessing, self.dtype = preprocessing, dtype
        self.normalise = Normalise(preprocessing)

    def forward(self, pixels: Tensor) -> Tensor:
        """Encode uint8 (N, 3, H, W) as float32 (N, D), L2-normalised."""
        transformer = self.transformer
        images = self.normalise(pixels).to(self.dtype)
        tokens = transformer.pre_layrnorm(transformer.embeddings(images))  # the class token first
        *layers, last = transformer.encoder.layers
        for layer in layers:
            tokens = _layer(layer, tokens, tokens.shape[1])
        pooled = transformer.post_layernorm(_layer(last, tokens, 1)[:, 0])
        return F.normalize(self.projection(pooled).float(), dim=1)

    def in_dtype(self, dtype: torch.dtype) -> ImageTower:
        """Return a copy that computes in another type, from normalised pixels to the projection."""
        transformer, projection = copy.deepcopy((self.transformer, self.projection))
        return ImageTower(transformer, projection, self.preprocessing, dtype).to(self.normalise.mean.device)


def _layer(layer: Transformers, tokens: Tensor, wanted: int) -> Tensor:
    """Return a layer's output (N, wanted, D) for the first `wanted` of its tokens (N, T, D)."""
    attention, normalised = layer.self_attn, layer.layer_norm1(tokens)

    def heads(projected: Tensor) -> Tensor:
        return projected.view(*projected.shape[:2], -1, attention.head_dim).transpose(1, 2)

    queries, keys, values = (heads(part(normalised)) for part in (attention.q_proj, attention.k_proj, attention.v_proj))
    # All tokens are queries: with one query an image, the last bits would depend on the image's place in the batch.
    attended = F.scaled_dot_product_attention(queries, keys, values, scale=attention.scale)
    attended = attended[:, :, :wanted].transpose(1, 2).flatten(2)
    tokens = tokens[:, :wanted] + attention.out_proj(attended)
    output: Tensor = tokens + layer.mlp(layer.layer_norm2(tokens))
    return output
