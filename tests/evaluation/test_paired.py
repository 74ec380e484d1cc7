"""A paired difference of accuracies, its interval, and how sure it is."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import norm

from tagger.evaluation.paired import paired_difference


def test_the_interval_is_that_of_a_mean_of_differences():
    rng = np.random.default_rng(0)
    own, other = (rng.random((2, 2000)) < [[0.8], [0.77]]).astype(float)
    found = paired_difference(own, other, np.arange(2000))
    difference = own - other
    half = norm.ppf(0.975) * difference.std() / 2000**0.5
    assert found.mean == pytest.approx(difference.mean())
    assert (found.low, found.high) == pytest.approx((difference.mean() - half, difference.mean() + half), abs=0.002)
    assert found.better == pytest.approx(norm.cdf(difference.mean() / (difference.std() / 2000**0.5)), abs=0.01)


def test_rows_of_one_group_are_one_observation():
    own, other = np.asarray([1.0, 1, 1, 1, 0, 0, 0, 0] * 10), np.asarray([0.0, 0, 0, 0, 1, 1, 0, 0] * 10)
    alone = paired_difference(own, other, np.arange(80))
    together = paired_difference(own, other, np.arange(80) // 4)
    assert together.mean == alone.mean == pytest.approx(0.25)
    assert together.high - together.low > 1.5 * (alone.high - alone.low)


def test_what_is_the_same_is_not_better():
    found = paired_difference(np.ones(5), np.ones(5), np.zeros(5, np.int64))
    assert (found.mean, found.low, found.high, found.better) == (0, 0, 0, 0)
