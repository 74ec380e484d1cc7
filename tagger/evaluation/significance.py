"""Two samples -> the p-value of the test that they come from one distribution.

As scipy.stats computes them, which takes a second to import, from the special functions underneath, which take a tenth of that.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy import special


class Sample(NamedTuple):
    """Mean and (unbiased) variance, float64 (D,), of a number of rows."""

    mean: NDArray[np.float64]
    variance: NDArray[np.float64]
    rows: int


def chi_square(counts: NDArray[np.int64]) -> float:
    """Test by Pearson whether two samples, counts (2, K), have the same shares of K categories, none of which is empty."""
    expected = counts.sum(1, keepdims=True) * (counts.sum(0) / counts.sum())
    statistic = ((counts - expected) ** 2 / expected).sum()
    return float(special.chdtrc(counts.shape[1] - 1, statistic))


def kolmogorov_smirnov(difference: float, first: int, second: int) -> float:
    """Test two samples of so many rows by the largest difference of their cumulative distributions, by its limit."""
    return float(special.kolmogorov(difference * np.sqrt(first * second / (first + second))))


def fisher_more(before: tuple[int, int], now: tuple[int, int]) -> float:
    """Test by Fisher, exactly, whether the share of hits has become larger; both are (hits, rows)."""
    hits, rows = before[0] + now[0], before[1] + now[1]
    more = np.arange(now[0], min(hits, now[1]) + 1)

    def log_choose(n: float, k: NDArray[np.int64] | int) -> NDArray[np.float64]:
        found: NDArray[np.float64] = (
            special.gammaln(n + 1) - special.gammaln(np.add(k, 1)) - special.gammaln(np.subtract(n + 1, k))
        )
        return found

    logs = log_choose(now[1], more) + log_choose(before[1], hits - more) - log_choose(rows, hits)
    return min(1.0, float(np.exp(special.logsumexp(logs))))


def welch(first: Sample, second: Sample) -> NDArray[np.float64]:
    """Test each coordinate's mean (D,) by Welch; NaN where neither sample varies and the means are equal."""
    errors = first.variance / first.rows, second.variance / second.rows
    with np.errstate(divide="ignore", invalid="ignore"):  # coordinates that do not vary
        t = (first.mean - second.mean) / np.sqrt(errors[0] + errors[1])
        freedom = (errors[0] + errors[1]) ** 2 / (errors[0] ** 2 / (first.rows - 1) + errors[1] ** 2 / (second.rows - 1))
    found: NDArray[np.float64] = 2 * special.stdtr(np.where(np.isnan(freedom), 1, freedom), -np.abs(t))
    return found
