"""Probabilities -> decisions: which system made them, the best labels, the prediction set, whether a person should look."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from tagger.core.types import Decision, LabelSets
from tagger.tagging.heads import softmax

TOP_K = 5
TINY = float(np.finfo(np.float32).tiny)


def decide(
    probabilities: NDArray[np.float32],
    source: NDArray[np.str_],
    name: str,
    review_below: Sequence[float],
    set_threshold: float | None = None,
) -> Decision:
    """Decide about N images by an attribute's probabilities (N, K): the TOP_K best labels, all K where there are fewer.

    source: str (N,), which system each image's probabilities are from. name: the attribute's. review_below: (K,), for each label
    the confidence below which a person should look at a decision for it; 0: at none, 1: at every one. set_threshold: the
    probability from which on a label belongs to an image's prediction set; None: there are no sets.
    """
    # A stable sort: labels that tie keep their order.
    labels = np.argsort(-probabilities, axis=1, kind="stable")
    ranked = np.take_along_axis(probabilities, labels, axis=1)
    below = np.asarray(review_below, np.float64)[labels[:, 0]]
    review: list[str | None] = [None] * len(probabilities)
    for row in np.flatnonzero((ranked[:, 0] < below) | (below >= 1)).tolist():  # a confidence may be 1
        review[row] = _reason(name, float(ranked[row, 0]), float(below[row]))
    sets = None
    if set_threshold is not None:
        sizes = set_sizes(ranked, set_threshold)
        sets = LabelSets(labels=labels[np.arange(labels.shape[1]) < sizes[:, None]], sizes=sizes)
    return Decision(top=labels[:, :TOP_K], confidence=ranked[:, :TOP_K], review=tuple(review), source=source, sets=sets)


def set_sizes(ranked: NDArray[np.float32], threshold: float) -> NDArray[np.int64]:
    """Return int64 (N,), how many of the first labels each prediction set has: those whose probability is the threshold or more.

    ranked: float32 (N, K), each row's probabilities, the highest first. Where none is so high, the set is the first label, so
    that nobody is shown an empty one; more sets hold the right label for that, never fewer.
    """
    sizes: NDArray[np.int64] = np.maximum((ranked >= np.float32(threshold)).sum(1), 1)
    return sizes


def _reason(name: str, confidence: float, below: float) -> str:
    """Return why a person should look at a decision that needs it."""
    comparison = ", and review_below is 1" if below >= 1 else f" is below {below:g}"
    return f"low-confidence: {name} {confidence:.3f}{comparison}"


def more_confident(first: NDArray[np.float32], second: NDArray[np.float32]) -> NDArray[np.bool_]:
    """Return bool (N,): whether the second's largest probability is above the first's; both are float32 (N, K)."""
    better: NDArray[np.bool_] = second.max(1) > first.max(1)
    return better


def average(first: NDArray[np.float32], second: NDArray[np.float32], weight: float, temperature: float) -> NDArray[np.float32]:
    """Average two systems' probabilities (N, K), the second's with `weight`, and apply a temperature: softmax(log(mean) / T)."""
    mean = (1 - weight) * first + weight * second
    if temperature == 1:
        return mean
    return softmax(log_probabilities(mean) / np.float32(temperature))


def log_probabilities(probabilities: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return the logarithms of probabilities (N, K), finite where one is 0: logits that a temperature can divide."""
    logits: NDArray[np.float32] = np.log(np.maximum(probabilities, np.float32(TINY)))
    return logits
