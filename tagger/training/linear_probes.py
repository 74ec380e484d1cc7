"""Labelled rows -> linear heads that gradient descent finds from zero-shot."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from tagger.core.errors import ManifestError
from tagger.tagging.heads import LinearHead
from tagger.training.labelled_embeddings import LabelledEmbeddings

BLEND_ROUNDS = 300  # of LP++; a round is a step of each block
CLAP_STEPS, CLAP_RATE, CLAP_MOMENTUM = 300, 0.1, 0.9  # Silva-Rodriguez et al. 2024, section 5.1
TEXT_LENGTH = 10.0  # about that of a text embedding of OpenAI's CLIP, before it is normalised


def fit_linear(rows: LabelledEmbeddings, seed: int) -> LinearHead:
    """Learn weights w + alpha t: t a label's text embedding, alpha its own blend of it (LP++, Huang et al. 2024, equation 4).

    Descends the cross-entropy by blocks, with steps of 1 / Lipschitz bound of each (section 3.2): the softmax's Hessian is at
    most half the identity, so half the largest eigenvalue of F^T F / N bounds the block of all w, and half the mean of (f t)^2
    that of one alpha. Starts from the class means and the model's logit_scale as alpha: zero-shot with the means added.
    """
    embeddings, text, count = rows.embeddings, rows.label_embeddings, len(rows)
    similarities = embeddings @ text.T
    weight, alpha = rows.class_means, torch.full((rows.classes,), float(rows.logit_scale))
    weight_step = 2 / torch.linalg.eigvalsh(embeddings.T @ embeddings / count)[-1]
    alpha_steps = 2 / (similarities**2).mean(0).clamp_min(torch.finfo(torch.float32).eps)
    for _ in range(BLEND_ROUNDS):
        weight = (
            weight - weight_step * _residuals(embeddings @ weight.T + similarities * alpha, rows.truth).T @ embeddings / count
        )
        residuals = _residuals(embeddings @ weight.T + similarities * alpha, rows.truth)
        alpha = alpha - alpha_steps * (residuals * similarities).mean(0)
    return _checked(LinearHead(weight + alpha[:, None] * text, torch.zeros(rows.classes)), "linear")


def fit_clap(rows: LabelledEmbeddings, seed: int) -> LinearHead:
    """Learn one prototype a label, held near its text embedding by as much as zero-shot is right about it (CLAP).

    Silva-Rodriguez et al. 2024, "A Closer Look at the Few-Shot Adaptation of Large Vision-Language Models", equation 6: the
    cross-entropy plus the mean over labels of multiplier * |w - t|^2, with the multipliers of `clap_multipliers`; no row is held
    out. Only the cosine with w counts in the logits, but rate and penalty are made for a t as long as CLIP's text tower returns
    it: with a t of length 1 a step would turn w by 100 times as much, and one row a label would end far below zero-shot.
    """
    text, multipliers = TEXT_LENGTH * rows.label_embeddings, clap_multipliers(rows)[:, None] / rows.classes
    weight, velocity = text, torch.zeros_like(text)
    for step in range(CLAP_STEPS):
        prototypes, lengths = F.normalize(weight, dim=1), weight.norm(dim=1, keepdim=True)
        residuals = _residuals(rows.logit_scale * rows.embeddings @ prototypes.T, rows.truth)
        gradient = rows.logit_scale * residuals.T @ rows.embeddings / len(rows)
        gradient = (gradient - (gradient * prototypes).sum(1, keepdim=True) * prototypes) / lengths  # through the normalisation
        velocity = CLAP_MOMENTUM * velocity + gradient + 2 * multipliers * (weight - text)
        weight = weight - CLAP_RATE * (1 + math.cos(math.pi * step / CLAP_STEPS)) / 2 * velocity
    return _checked(LinearHead(rows.logit_scale * F.normalize(weight, dim=1), torch.zeros(rows.classes)), "clap")


def clap_multipliers(rows: LabelledEmbeddings) -> Tensor:
    """Return float32 (K,): the mean probability that zero-shot gives a label on its own rows (section 4.2 of the same).

    A label without rows is held by 1, as one that zero-shot is always sure of: nothing else is known of it.
    """
    probabilities = rows.zero_shot(rows.embeddings).softmax(1)
    given = probabilities[torch.arange(len(rows)), rows.truth]
    total = torch.zeros(rows.classes).index_add(0, rows.truth, given)
    return torch.where(rows.counts == 0, 1.0, total / rows.counts.clamp_min(1))


def _residuals(logits: Tensor, truth: Tensor) -> Tensor:
    """Return softmax minus one-hot truth, float32 (N, K): N times the cross-entropy's gradient for the logits."""
    probabilities = logits.softmax(1)
    probabilities[torch.arange(len(truth)), truth] -= 1
    return probabilities


def _checked(head: LinearHead, method: str) -> LinearHead:
    if not torch.isfinite(head.weight).all():
        raise ManifestError(
            f"labelled rows: expected {method} to end at a finite loss, found NaN; choose another method with --method"
        )
    return head
