"""Embeddings of a CLIP that is being changed, which no encoder has yet: L2-normalised, float32."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from tagger.core.types import Preprocessing
from tagger.encoders.clip_model import Clip
from tagger.encoders.normalise import Normalise

AT_ONCE = 64  # images that are encoded together


@torch.no_grad()
def embed_pixels(model: Clip, pixels: Tensor, preprocessing: Preprocessing, device: torch.device) -> Tensor:
    """Embed uint8 (N, 3, H, W) as float32 (N, D) on the CPU, L2-normalised."""
    normalise = Normalise(preprocessing).to(device)
    model.eval().to(device)
    return torch.cat([embed_images(model, normalise(part.to(device))).float().cpu() for part in torch.split(pixels, AT_ONCE)])


def embed_images(model: Clip, images: Tensor) -> Tensor:
    """Embed normalised images (N, 3, H, W), L2-normalised."""
    return F.normalize(model.visual_projection(model.vision_model(images)), dim=1)


def embed_prompts(model: Clip, tokens: Tensor) -> Tensor:
    """Embed prompts int64 (P, T), L2-normalised."""
    return F.normalize(model.text_projection(model.text_model(tokens)), dim=1)


@torch.no_grad()
def embed_labels(model: Clip, tokens: Tensor, prompts: Sequence[Sequence[int]], device: torch.device) -> Tensor:
    """Return the mean embeddings of K labels' prompts, float32 (K, D) on the CPU, L2-normalised. tokens, prompts: as of Task."""
    embeddings = embed_prompts(model.eval().to(device), tokens.to(device)).cpu()
    return torch.stack([F.normalize(embeddings[list(own)].mean(0), dim=0) for own in prompts])
