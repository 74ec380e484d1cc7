"""Labelled rows -> a Gaussian for each label, one precision for all, blended with zero-shot."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from tagger.tagging.heads import LinearHead
from tagger.training.labelled_embeddings import LabelledEmbeddings

ALPHAS = (0.0, 0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0, 30.0, 100.0)
FOLDS = 5
SMALLEST_SCATTER = 1e-4  # of embeddings of length 1: rows that are all the same still have a regular covariance


def fit_gda(rows: LabelledEmbeddings, seed: int) -> LinearHead:
    """Add Gaussian discriminant analysis to zero-shot, by an alpha that held-out folds choose (Wang et al. 2024, equation 9).

    "A Hard-to-Beat Baseline for Training-free CLIP-based Adaptation", ICLR 2024.
    """
    accuracy, loss = torch.zeros(len(ALPHAS)), torch.zeros(len(ALPHAS))
    for fitted, held_out in rows.folds(FOLDS, seed):
        embeddings, truth = rows.embeddings[held_out], rows.truth[held_out]
        zero_shot, gaussian = rows.zero_shot(embeddings), gaussian_head(fitted)(embeddings)
        for number, alpha in enumerate(ALPHAS):
            logits = zero_shot + alpha * gaussian
            accuracy[number] += (logits.argmax(1) == truth).sum()
            loss[number] += F.cross_entropy(logits, truth, reduction="sum")
    best = torch.nonzero(accuracy == accuracy.max()).squeeze(1)
    alpha = ALPHAS[int(best[loss[best].argmin()])]
    found = gaussian_head(rows)
    return LinearHead(rows.zero_shot.weight + alpha * found.weight, alpha * found.bias)


def gaussian_head(rows: LabelledEmbeddings) -> LinearHead:
    """Classify by class means and one precision matrix for all labels (Wang et al. 2024, equations 3 to 5).

    A label without rows takes the mean of the others' weights and biases, so that zero-shot alone speaks for and against it.
    """
    precision = shrunk_precision(rows.embeddings - rows.class_means[rows.truth])
    weight = rows.class_means @ precision
    bias = -0.5 * (weight * rows.class_means).sum(1)  # the prior is the same for all: log(1/K) would change nothing
    absent = rows.counts == 0
    weight[absent], bias[absent] = weight[~absent].mean(0), bias[~absent].mean()
    return LinearHead(weight, bias)


def shrunk_precision(centred: Tensor) -> Tensor:
    """Return D ((N - 1) S + tr(S) I)^-1, float32 (D, D), with S the covariance of float32 (N, D) (Wang et al. 2024, equation 6).

    This empirical-Bayes ridge estimate is regular however few the rows are.
    """
    count, size = centred.shape
    scatter = centred.T.double() @ centred.double()
    ridge = (scatter.trace() / max(count - 1, 1)).clamp_min(SMALLEST_SCATTER)
    return (size * torch.linalg.inv(scatter + ridge * torch.eye(size, dtype=scatter.dtype))).float()
