"""Measure how well a confidence tells how often a label is correct."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from sklearn.metrics import log_loss

BINS = 15
POINTS = 20  # that a risk-coverage curve has


def confidence_metrics(probabilities: NDArray[np.float32], truth: NDArray[np.int64]) -> dict[str, float]:
    """Return accuracy, expected calibration error, log loss and Brier score.

    probabilities: float32 (N, K). truth: int64 (N,). The calibration error is over BINS bins of equal width (Guo et al. 2017,
    equation 5), the Brier score over all labels (Brier 1950: 0 to 2).
    """
    exact = probabilities.astype(np.float64)
    exact /= exact.sum(1, keepdims=True)
    confidence, correct = exact.max(1), exact.argmax(1) == truth
    bins = np.minimum((confidence * BINS).astype(np.int64), BINS - 1)
    gaps = [
        abs(correct[bins == number].mean() - confidence[bins == number].mean()) * (bins == number).mean()
        for number in np.unique(bins)
    ]
    target = np.eye(exact.shape[1])[truth]
    return {
        "accuracy": float(correct.mean()),
        "ece": float(sum(gaps)),
        "log_loss": float(log_loss(truth, exact, labels=np.arange(exact.shape[1]))),
        "brier": float(((exact - target) ** 2).sum(1).mean()),
    }


def risk_coverage(probabilities: NDArray[np.float32], truth: NDArray[np.int64]) -> list[dict[str, float]]:
    """Return up to POINTS points of the risk-coverage curve.

    coverage: the share of the rows that is looked at, the most confident ones first. risk: the share of those that is wrong.
    confidence: the lowest among them. probabilities, truth: as in `confidence_metrics`.
    """
    confidence = probabilities.max(1)
    order = np.argsort(-confidence, kind="stable")
    wrong = np.cumsum(probabilities.argmax(1)[order] != truth[order])
    counts = np.unique(np.ceil(np.linspace(0, len(truth), POINTS + 1)[1:]).astype(np.int64))
    return [
        {
            "coverage": count / len(truth),
            "risk": float(wrong[count - 1] / count),
            "confidence": float(confidence[order[count - 1]]),
        }
        for count in counts.tolist()
    ]
