"""Two ways to tag the same rows -> how much better one is, and how certain that is."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from tagger.core.frozen import Frozen

RESAMPLES = 10_000
BLOCK = 1 << 22  # counts of resamples that are in memory together


class Difference(Frozen):
    """A difference of accuracies: what was measured, its 95 % interval, and the share of resamples in which it is above 0."""

    mean: float
    low: float
    high: float
    better: float


def paired_difference(own: NDArray[np.float64], other: NDArray[np.float64], groups: NDArray[np.int64]) -> Difference:
    """Return by how much `own` is above `other`, by a paired bootstrap over groups of rows.

    own, other: float64 (N,), N > 0, of the same rows: 1 where the tag is right, 0 where it is wrong, between for a mean of draws.
    groups: int64 (N,), rows that are not independent of each other share a number; they are drawn together.
    """
    _, of_row = np.unique(groups, return_inverse=True)
    sums, sizes = np.bincount(of_row, own - other), np.bincount(of_row)
    # Groups that are alike are one cell: drawing groups anew is drawing counts of the cells, however many rows there are.
    cells, counts = np.unique(np.stack([sums.round(9), sizes], 1), axis=0, return_counts=True)
    rng, size = np.random.default_rng(0), max(1, BLOCK // len(cells))
    drawn = []
    for start in range(0, RESAMPLES, size):
        draws = rng.multinomial(len(sizes), counts / len(sizes), min(size, RESAMPLES - start))
        drawn.append((draws @ cells[:, 0]) / (draws @ cells[:, 1]))
    differences = np.concatenate(drawn)
    low, high = np.quantile(differences, (0.025, 0.975))
    mean = float(sums.sum() / len(own))
    return Difference(mean=mean, low=float(low), high=float(high), better=float((differences > 0).mean()))
