"""Say how far a figure may be from what other rows of the same catalogue would give: 95 % intervals of shares and of macro F1."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array
from scipy.stats import binomtest, norm

RESAMPLES = 2_000
BLOCK = 1 << 22  # counts of resamples that are in memory together

Interval = tuple[float, float]


def share_interval(count: int, rows: int) -> Interval | None:
    """Return the interval of the share `count` of `rows` by Wilson 1927; None without rows.

    The bootstrap's percentiles are those of a binomial around the share itself: of 100 rows that are nearly all right, they
    cover the truth in 63 % of samples (tests/benchmarks/intervals.py).
    """
    if not rows:
        return None
    interval = binomtest(count, rows).proportion_ci(method="wilson")
    return float(interval.low), float(interval.high)


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
    both, right = _label_sums(truth, tag, len(matrix))
    found = _macro_f1(counts[None], both, right)[0]
    rng, size = np.random.default_rng(0), max(1, BLOCK // max(matrix.shape[0], len(counts)))
    draws = (rng.multinomial(rows, counts / rows, min(size, RESAMPLES - start)) for start in range(0, RESAMPLES, size))
    drawn = np.concatenate([_macro_f1(draw, both, right) for draw in draws])
    below = np.mean(drawn < found) / 2 + np.mean(drawn <= found) / 2
    bias = norm.ppf(np.clip(below, 1 / RESAMPLES, 1 - 1 / RESAMPLES))
    # What one more row of a cell adds to macro F1, but for a constant factor.
    sums = np.maximum(counts @ both, 1)
    f1 = 2 * (counts @ right) / sums
    influence = 2 * (truth == tag) / sums[truth] - f1[truth] / sums[truth] - f1[tag] / sums[tag]
    spread = float(counts @ influence**2) ** 1.5
    acceleration = float(counts @ influence**3) / (6 * spread) if spread else 0.0
    normal = bias + norm.ppf((0.025, 0.975))
    low, high = np.quantile(drawn, norm.cdf(bias + normal / (1 - acceleration * normal)))
    return float(low), float(high)


def _label_sums(truth: NDArray[np.int64], tag: NDArray[np.int64], labels: int) -> tuple[csr_array, csr_array]:
    """Return what counts of cells are multiplied with, each (cells, labels): how often a label is truth or tag, and both."""
    number = np.arange(len(truth))
    shape = (len(truth), labels)
    as_truth, as_tag = (csr_array((np.ones(len(truth)), (number, one)), shape=shape) for one in (truth, tag))
    return as_truth + as_tag, csr_array(((truth == tag).astype(np.float64), (number, truth)), shape=shape)


def _macro_f1(counts: NDArray[np.int64], both: csr_array, right: csr_array) -> NDArray[np.float64]:
    """Return float64 (R,), the mean F1 of the labels that occur, as truth or as tag (as evaluation/metrics.py has it).

    counts: int64 (R, cells).
    """
    sums = counts @ both
    occurring = sums > 0
    f1 = np.divide(2 * (counts @ right), sums, out=np.zeros(sums.shape), where=occurring)
    mean: NDArray[np.float64] = f1.sum(1) / occurring.sum(1)
    return mean
