"""Say how far a figure may be from what other rows of the same catalogue would give: 95 % intervals of shares and of macro F1."""

from __future__ import annotations

import math
from statistics import NormalDist

import numpy as np
from numpy.typing import NDArray

RESAMPLES = 2_000
BLOCK = 1 << 22  # counts of resamples that are in memory together
NORMAL = NormalDist()  # SciPy's functions take a usual night longer to import than it lasts

Interval = tuple[float, float]


def share_interval(count: int, rows: int) -> Interval | None:
    """Return the interval of the share `count` of `rows` by Wilson 1927; None without rows.

    The bootstrap's percentiles are those of a binomial around the share itself: of 100 rows that are nearly all right, they
    cover the truth in 63 % of samples (tests/benchmarks/intervals.py).
    """
    if not rows:
        return None
    squared = NORMAL.inv_cdf(0.975) ** 2
    centre = (count + squared / 2) / (rows + squared)
    reach = math.sqrt(squared * (count * (rows - count) / rows + squared / 4)) / (rows + squared)
    return (centre - reach if count else 0.0), (centre + reach if count < rows else 1.0)


def macro_f1_interval(matrix: NDArray[np.int64]) -> Interval | None:
    """Return the interval of macro F1 by a bootstrap; None without rows.

    matrix: int64 (K, K), rows with truth i that were tagged j. Drawing as many rows anew is drawing counts of its cells from a
    multinomial, whatever the number of rows. The percentiles are bias-corrected and accelerated (BCa, Efron 1987), with the
    acceleration of the infinitesimal jackknife (Efron and Tibshirani 1993, equation 22.36). Where all rows are right, or none,
    every draw is the same; but there macro F1 is the accuracy, and so is its interval.
    """
    rows, correct = int(matrix.sum()), int(np.trace(matrix))
    if correct in (0, rows):
        return share_interval(correct, rows)
    truth, tag = np.nonzero(matrix)
    counts = matrix[truth, tag]
    rng, size = np.random.default_rng(0), max(1, BLOCK // max(matrix.shape[0], len(counts)))
    draws = (rng.multinomial(rows, counts / rows, min(size, RESAMPLES - start)) for start in range(0, RESAMPLES, size))
    drawn = np.concatenate([_macro_f1(*_label_sums(draw, truth, tag, len(matrix))) for draw in draws])
    either, both = _label_sums(counts[None], truth, tag, len(matrix))
    found = _macro_f1(either, both)[0]
    below = np.mean(drawn < found) / 2 + np.mean(drawn <= found) / 2
    bias = NORMAL.inv_cdf(float(np.clip(below, 1 / RESAMPLES, 1 - 1 / RESAMPLES)))
    # What one more row of a cell adds to macro F1, but for a constant factor.
    sums = np.maximum(either[0], 1)
    f1 = 2 * both[0] / sums
    influence = 2 * (truth == tag) / sums[truth] - f1[truth] / sums[truth] - f1[tag] / sums[tag]
    spread = float(counts @ influence**2) ** 1.5
    acceleration = float(counts @ influence**3) / (6 * spread) if spread else 0.0
    normals = [bias + NORMAL.inv_cdf(share) for share in (0.025, 0.975)]
    low, high = np.quantile(drawn, [NORMAL.cdf(bias + normal / (1 - acceleration * normal)) for normal in normals])
    return float(low), float(high)


def _label_sums(
    counts: NDArray[np.int64], truth: NDArray[np.int64], tag: NDArray[np.int64], labels: int
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return, each int64 (R, labels), how often a label is truth or tag, and how often it is both.

    counts: int64 (R, cells), of cells in the order of their truth.
    """
    either, both = np.zeros((len(counts), labels), np.int64), np.zeros((len(counts), labels), np.int64)
    for one, order in ((truth, np.arange(len(truth))), (tag, np.argsort(tag, kind="stable"))):
        present, starts = np.unique(one[order], return_index=True)
        either[:, present] += np.add.reduceat(counts[:, order], starts, axis=1)
    same = truth == tag
    both[:, truth[same]] = counts[:, same]
    return either, both


def _macro_f1(either: NDArray[np.int64], both: NDArray[np.int64]) -> NDArray[np.float64]:
    """Return float64 (R,), the mean F1 of the labels that occur, as truth or as tag (as evaluation/metrics.py has it)."""
    occurring = either > 0
    f1 = np.divide(2 * both, either, out=np.zeros(either.shape), where=occurring)
    mean: NDArray[np.float64] = f1.sum(1) / occurring.sum(1)
    return mean
