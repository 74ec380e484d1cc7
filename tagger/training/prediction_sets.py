"""Held-out rows' probabilities -> the thresholds of prediction sets, and how large the sets are."""

from __future__ import annotations

import logging

import numpy as np
from numpy.typing import NDArray

from tagger.evaluation.conformal import choose_set_threshold, rows_for_sets
from tagger.inference.predictor import Probabilities
from tagger.tagging.calibration import PredictionSets
from tagger.tagging.decisions import set_sizes

log = logging.getLogger(__name__)


def choose_sets(
    decided: Probabilities, by_fallback: Probabilities | None, truth: NDArray[np.int64], coverage: float, where: str
) -> PredictionSets:
    """Choose the thresholds on held-out rows; where these are too few, none, and warn how many would do.

    decided: float32 (N, K), the probabilities by which a run decides. by_fallback: the fallback's, by which it decides alone.
    truth: int64 (N,). where: what a warning begins with.
    """
    rows, least = len(truth), rows_for_sets(coverage)
    if rows < least:
        log.warning(
            "%s: prediction_sets %g: expected at least %d held-out rows, half of the labelled ones, found %d; every set has all "
            "labels, and nothing is promised; label %d more",
            where,
            coverage,
            least,
            rows,
            2 * (least - rows),
        )

    def choose(probabilities: Probabilities) -> float | None:
        return choose_set_threshold(probabilities[np.arange(rows), truth], coverage)

    threshold, of_fallback = choose(decided), None if by_fallback is None else choose(by_fallback)
    sizes = set_sizes(-np.sort(-decided, axis=1), threshold or 0.0)
    return PredictionSets(
        coverage=coverage, threshold=threshold, fallback_threshold=of_fallback, rows=rows, mean_size=float(sizes.mean())
    )
