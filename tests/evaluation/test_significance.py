"""Tests of significance: the same p-values as scipy.stats computes."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from tagger.evaluation.significance import Sample, chi_square, fisher_more, kolmogorov_smirnov, welch

counts = st.integers(1, 1_000_000)
numbers = st.floats(-1e3, 1e3)


@given(st.lists(st.tuples(counts, counts), min_size=2, max_size=20))
def test_chi_square(pairs: list[tuple[int, int]]):
    table = np.array(pairs).T
    assert chi_square(table) == pytest.approx(stats.chi2_contingency(table, correction=False).pvalue, rel=1e-9, abs=1e-300)


@given(st.floats(0.001, 1), counts, counts)
def test_kolmogorov_smirnov(difference: float, first: int, second: int):
    expected = stats.kstwobign.sf(difference * np.sqrt(first * second / (first + second)))
    assert kolmogorov_smirnov(difference, first, second) == expected


@given(st.integers(1, 5_000), st.integers(1, 5_000), st.data())
def test_fisher(before: int, now: int, data: st.DataObject):
    hits = data.draw(st.integers(0, before)), data.draw(st.integers(0, now))
    table = [[hits[1], now - hits[1]], [hits[0], before - hits[0]]]
    expected = stats.fisher_exact(table, alternative="greater").pvalue
    assert fisher_more((hits[0], before), (hits[1], now)) == pytest.approx(expected, rel=1e-7, abs=1e-300)


@given(st.lists(st.tuples(numbers, numbers, st.floats(0, 1e3), st.floats(0, 1e3)), min_size=1), st.integers(2, 10**6), counts)
def test_welch(coordinates: list[tuple[float, ...]], first: int, second: int):
    second += 1
    means, others, variances, other_variances = np.array(coordinates).T
    with np.errstate(divide="ignore", invalid="ignore"):
        expected = stats.ttest_ind_from_stats(
            means, np.sqrt(variances), first, others, np.sqrt(other_variances), second, equal_var=False
        ).pvalue
    found = welch(Sample(means, variances, first), Sample(others, other_variances, second))
    np.testing.assert_allclose(found, expected, rtol=1e-6, atol=1e-300)
