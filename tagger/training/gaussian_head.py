"""Labelled rows -> a Gaussian for each label, one precision for all, blended with zero-shot."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from tagger.tagging.heads import LinearHead
from tagger.training.cross_validation import best_setting
from tagger.training.labelled_embeddings import LabelledEmbeddings

ALPHAS = (0.0, 0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0, 30.0, 100.0)
SMALLEST_RIDGE = 1e-4  # of embeddings of length 1: rows that are all the same still have a regular covariance


def fit_gda(rows: LabelledEmbeddings, seed: int) -> LinearHead:
    """Add Gaussian discriminant analysis, times an alpha that held-out folds choose, to zero-shot (Wang et al. 2024, section 3).

    "A Hard-to-Beat Baseline for Training-free CLIP-based Adaptation", ICLR 2024. Where no label has two rows, alpha is 0.
    """

    def score(fitted: LabelledEmbeddings, embeddings: Tensor) -> Iterator[Tensor]:
        zero_shot, gaussian = fitted.zero_shot(embeddings), gaussian_head(fitted)(embeddings)
        return (zero_shot + alpha * gaussian for alpha in ALPHAS)

    alpha = ALPHAS[best_setting(rows, seed, 0, score)]
    gaussian = gaussian_head(rows)
    return LinearHead(rows.zero_shot.weight + alpha * gaussian.weight, alpha * gaussian.bias)


def gaussian_head(rows: LabelledEmbeddings) -> LinearHead:
    """Classify by class means and one precision matrix of all labels, with equal priors (Wang et al. 2024, section 3.1).

    A label without rows has the mean that its text embedding says, moved as the others' means are from their texts: images and
    texts lie apart (Liang et al. 2022, "Mind the Gap").
    """
    absent = rows.counts == 0
    gap = (rows.class_means - rows.label_embeddings)[~absent].mean(0)
    means = torch.where(absent[:, None], rows.label_embeddings + gap, rows.class_means)
    return LinearHead(*gaussian_layer(means, rows.embeddings - means[rows.truth]))


def gaussian_layer(means: Tensor, centred: Tensor) -> tuple[Tensor, Tensor]:
    """Return P m, (K, D), and -m P m / 2, (K,), in the type of what is given: the posterior of equal priors is linear.

    means: (K, D). centred: (N, D), each row less the mean of its label, from which `shrunk_precision` has P.
    """
    weight = means @ shrunk_precision(centred)
    return weight, -0.5 * (weight * means).sum(1)


def shrunk_precision(centred: Tensor) -> Tensor:
    """Return D ((N - 1) S + tr(S) I)^-1, (D, D) in the type of `centred`, (N, D), whose covariance is S.

    Wang et al., equation 5, take this empirical-Bayes ridge estimate from Kubokawa and Srivastava 2008: it needs no choice, and
    is regular for however few rows.
    """
    count, size = centred.shape
    scatter = centred.T.double() @ centred.double()
    ridge = (scatter.trace() / max(count - 1, 1)).clamp_min(SMALLEST_RIDGE)
    inverse: Tensor = torch.linalg.inv(scatter + ridge * torch.eye(size, dtype=scatter.dtype))
    return (size * inverse).to(centred.dtype)
