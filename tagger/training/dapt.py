"""Labelled pixels -> prompts of both towers, which stay as they are: distribution-aware prompt tuning.

DAPT: Cho et al., ICCV 2023. Words before the labels' names are vectors (CoOp: Zhou et al. 2022), and further tokens stand behind
an image's patches (VPT: Jia et al. 2022, shallow). Beside cross-entropy, the labels' texts are to lie far apart
(inter-dispersion) and a label's images near their prototype (intra-dispersion). It computes where the model is.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Sequence
from typing import NamedTuple, cast

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from tagger.core.errors import ModelError
from tagger.encoders.clip import Parts, clip_text
from tagger.encoders.clip_model import Clip
from tagger.encoders.normalise import Normalise
from tagger.training.prompt_learning import CONTEXT, SHARPNESS, dispersion
from tagger.training.temperature import softmax

log = logging.getLogger(__name__)

PATCHES = 8  # further tokens of an image
STEPS, BATCH, LEARNING_RATE = 100, 64, 0.002
INTER, INTRA = 1.0, 1.0  # the weights of the two dispersions beside the cross-entropy
AT_ONCE = 64  # images that are encoded together


class DualPrompts(NamedTuple):
    """What is learned. words: float32 (M, W), before each label's name. patches: float32 (V, U), behind an image's own."""

    words: Tensor
    patches: Tensor


def fit_dapt(
    parts: Parts,
    pixels: Tensor,
    truth: NDArray[np.int64],
    labels: Sequence[str],
    seed: int,
    *,
    advance: Callable[[], object] = lambda: None,
) -> DualPrompts:
    """Learn prompts from uint8 (N, 3, H, W) with truth int64 (N,), indices of K labels.

    A label's prototype is the mean of its images' embeddings by the model as it is. The same seed gives the same prompts. Raises
    ModelError for a loss that is not finite, ConfigError for a label that is too long; advance, called at every step, may raise.
    """
    model, text = cast(Clip, parts.model).eval().requires_grad_(False), clip_text(parts)
    device, rng = model.logit_scale.device, torch.Generator().manual_seed(seed)
    normalise = Normalise(parts.preprocessing).to(device)
    target, scale = torch.from_numpy(truth), float(model.logit_scale.exp())
    prototypes = _prototypes(_embed(model, normalise, pixels, None), target, len(labels)).to(device)
    target = target.to(device)
    width = model.vision_model.embeddings.class_embedding.shape[0]
    words = text.embed_words(CONTEXT).clone().requires_grad_()
    patches = (0.02 * torch.randn(PATCHES, width, generator=rng)).to(device).requires_grad_()
    optimiser = torch.optim.Adam([words, patches], LEARNING_RATE)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, STEPS)
    for step in range(STEPS):
        advance()
        drawn = torch.randperm(len(pixels), generator=rng)[:BATCH]
        images = F.normalize(model.visual_projection(model.vision_model(normalise(pixels[drawn].to(device)), patches)), dim=1)
        texts = embed_labels(parts, words, labels)
        loss = F.cross_entropy(scale * images @ texts.T, target[drawn])
        loss = loss + INTER * dispersion(texts, SHARPNESS) + INTRA * intra_dispersion(images, target[drawn], prototypes)
        if not math.isfinite(loss.item()):
            raise ModelError(
                f"dapt: expected a finite loss, found {loss.item()} at step {step + 1} of {STEPS}; choose another model"
            )
        optimiser.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]  # torch gives it no types
        optimiser.step()
        schedule.step()
    return DualPrompts(words.detach(), patches.detach())


@torch.no_grad()
def predict(parts: Parts, prompts: DualPrompts, labels: Sequence[str], pixels: Tensor) -> NDArray[np.float32]:
    """Return the probabilities of K labels, float32 (N, K), for uint8 (N, 3, H, W)."""
    model = cast(Clip, parts.model)
    texts = embed_labels(parts, prompts.words, labels).cpu()
    images = _embed(model, Normalise(parts.preprocessing).to(model.logit_scale.device), pixels, prompts.patches)
    return softmax((float(model.logit_scale.exp()) * images @ texts.T).numpy())


def intra_dispersion(images: Tensor, truth: Tensor, prototypes: Tensor) -> Tensor:
    """Return the mean squared distance of images, float32 (B, D), to the prototypes, float32 (K, D), of their labels, (B,)."""
    return (images - prototypes[truth]).square().sum(1).mean()


def _prototypes(embeddings: Tensor, truth: Tensor, labels: int) -> Tensor:
    """Return float32 (K, D): the mean of each label's embeddings."""
    sums = torch.zeros(labels, embeddings.shape[1]).index_add_(0, truth, embeddings)
    return sums / torch.bincount(truth, minlength=labels).clamp(min=1)[:, None]


def embed_labels(parts: Parts, words: Tensor, labels: Sequence[str]) -> Tensor:
    """Return K labels' texts behind the words, float32 (K, D), L2-normalised. ConfigError for a label that is too long."""
    return F.normalize(clip_text(parts).encode_with_context(words, [f"{label}." for label in labels]), dim=1)


@torch.no_grad()
def _embed(model: Clip, normalise: Normalise, pixels: Tensor, patches: Tensor | None) -> Tensor:
    pieces = torch.split(pixels, AT_ONCE)
    device = model.logit_scale.device
    found = [model.visual_projection(model.vision_model(normalise(piece.to(device)), patches)) for piece in pieces]
    return F.normalize(torch.cat(found), dim=1).cpu()
