"""Labelled rows -> a head of learned prompts: the words before a label are vectors, fitted through the frozen text tower."""

from __future__ import annotations

import logging
import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from tagger.core import shutdown
from tagger.core.errors import ModelError
from tagger.encoders.clip import ClipEncoder
from tagger.tagging.heads import LinearHead
from tagger.training.labelled_embeddings import LabelledEmbeddings

log = logging.getLogger(__name__)

CONTEXT = "A photo of a"  # what the vectors begin as: the study's template
# Tried with four folds of the rows that tests/benchmarks/prompts.py fits on, not with those that it judges by.
STEPS, BATCH, LEARNING_RATE = 100, 256, 0.01
DISPERSION, SHARPNESS = 1.0, 2.0  # the weight of the dispersion loss beside the cross-entropy, and its t
PROMPTS_AT_ONCE = 512  # whose activations are in memory together


def fit_prompts(rows: LabelledEmbeddings, seed: int, encoder: ClipEncoder, labels: Sequence[str]) -> LinearHead:
    """Learn a context that all labels share, by cross-entropy and dispersion (Zhou et al. 2022; Cho et al., ICCV 2023).

    The prompt of a label is the learned vectors, its name and a full stop, whatever prompts it has in the settings; images and
    both towers stay as they are. labels: K names, in the order of the rows' label_embeddings. The head's weight is the prompts'
    embeddings times the model's logit_scale, its bias 0. The same seed gives the same head. Raises ModelError for a loss that is
    not finite, ConfigError for a label that is too long, KeyboardInterrupt where a stop was asked for.
    """
    device, prompts = encoder.device, [f"{label}." for label in labels]
    embeddings, truth = rows.embeddings.to(device), rows.truth.to(device)
    context = encoder.embed_words(CONTEXT).clone().requires_grad_()
    optimizer = torch.optim.Adam([context], LEARNING_RATE)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, STEPS)
    rng = torch.Generator().manual_seed(seed)
    losses: list[float] = []
    for step in range(STEPS):
        shutdown.check()
        drawn = torch.randperm(len(rows), generator=rng)[:BATCH].to(device)
        features = _encode(encoder, context, prompts)
        loss = F.cross_entropy(rows.logit_scale * embeddings[drawn] @ features.T, truth[drawn])
        loss = loss + DISPERSION * dispersion(features, SHARPNESS)
        losses.append(loss.item())
        if not math.isfinite(losses[-1]):
            raise ModelError(
                f"method prompts: expected a finite loss, found {losses[-1]} at step {step + 1} of {STEPS}; choose another "
                "--method, or another model"
            )
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]  # torch gives it no types
        optimizer.step()
        schedule.step()
    log.info("prompts: fitted for %d labels on %d rows: loss %.3f, at first %.3f", len(labels), len(rows), losses[-1], losses[0])
    with torch.no_grad():
        weight = rows.logit_scale * _encode(encoder, context, prompts).cpu()
    return LinearHead(weight, torch.zeros(len(labels)))


def dispersion(features: Tensor, t: float) -> Tensor:
    """Return the mean over pairs of labels of exp(-t ||w_i - w_j||^2), a scalar that is small where labels lie far apart.

    features: float32 (K, D), L2-normalised, K > 1. It is the Gaussian potential (Wang and Isola 2020) that the inter-dispersion
    loss of DAPT puts on text (Cho et al., ICCV 2023, "Distribution-Aware Prompt Tuning for Vision-Language Models", section 3). A
    mean, as a sum would weigh the more beside the cross-entropy the more labels there are.
    """
    potential = torch.exp(-2 * t * (1 - features @ features.T))  # the squared distance is 2 - 2 cos
    count = len(features)
    return (potential.sum() - potential.diagonal().sum()) / (count * (count - 1))


def _encode(encoder: ClipEncoder, context: Tensor, prompts: Sequence[str]) -> Tensor:
    """Encode prompts behind the context; where they are many, activations are computed again instead of kept."""
    parts = [prompts[start : start + PROMPTS_AT_ONCE] for start in range(0, len(prompts), PROMPTS_AT_ONCE)]
    if len(parts) == 1:
        return encoder.encode_with_context(context, prompts)
    return torch.cat([checkpoint(encoder.encode_with_context, context, part, use_reentrant=False) for part in parts])
