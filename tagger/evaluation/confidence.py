"""How well confidences say how often a label is right."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from sklearn.metrics import log_loss

BINS = 15
POINTS = 20  # of a risk-coverage curve


def confidence_metrics(probabilities: NDArray[np.float32], truth: NDArray[np.int64]) -> dict[str, float]:
    """Of probabilities (N, K) with truth int64 (N,): accuracy; expected calibration error over BINS bins of equal width (Guo et
    al. 2017, equation 5); log loss; Brier score, of all labels (Brier 1950: 0 to 2)."""
    exact = probabilities.astype(np.float64)
    exact /= exact.sum(1, keepdims=True)
    confidence, right = exact.max(1), exact.argmax(1) == truth
    bins = np.minimum((confidence * BINS).astype(np.int64), BINS - 1)
    gaps = [
        abs(right[bins == number].mean() - confidence[bins == number].mean()) * (bins == number).mean()
        for number in np.unique(bins)
    ]
    wanted = np.eye(exact.shape[1])[truth]
    return {
        "accuracy": float(right.mean()),
        "ece": float(sum(gaps)),
        "log_loss": float(log_loss(truth, exact, labels=np.arange(exact.shape[1]))),
        "brier": float(((exact - wanted) ** 2).sum(1).mean()),
    }


def risk_coverage(probabilities: NDArray[np.float32], truth: NDArray[np.int64]) -> list[dict[str, float]]:
    """For each share of the rows, the most confident first (coverage): how many are wrong (risk), and the lowest confidence."""
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


def threshold_for(probabilities: NDArray[np.float32], truth: NDArray[np.int64], precision: float) -> float | None:
    """The lowest confidence from which on so large a share of the rows is right; None where no confidence reaches that."""
    confidence = probabilities.max(1)
    order = np.argsort(-confidence, kind="stable")
    right = np.cumsum(probabilities.argmax(1)[order] == truth[order]) / np.arange(1, len(truth) + 1)
    last = np.append(np.diff(confidence[order]) != 0, True)  # rows of one confidence pass together
    enough = np.flatnonzero((right >= precision) & last)
    return float(confidence[order[enough[-1]]]) if len(enough) else None
