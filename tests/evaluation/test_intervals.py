"""The intervals of accuracy and macro F1: what other samples of the same catalogue give lies within."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import f1_score

from tagger.evaluation.intervals import _label_sums, _macro_f1, macro_f1_interval, share_interval


def matrix_of(rows: list[tuple[int, int]], labels: int = 4) -> np.ndarray:
    matrix = np.zeros((labels, labels), np.int64)
    for truth, tag in rows:
        matrix[truth, tag] += 1
    return matrix


pairs = st.lists(st.tuples(st.integers(0, 3), st.integers(0, 3)), min_size=1, max_size=40)


@given(pairs)
@settings(deadline=None)
def test_the_bootstrap_computes_macro_f1_as_scikit_learn_does(rows: list[tuple[int, int]]):
    matrix = matrix_of(rows)
    cells = np.nonzero(matrix)
    expected = f1_score(*zip(*rows, strict=True), average="macro", zero_division=0)
    assert _macro_f1(*_label_sums(matrix[cells][None], *cells, 4)).tolist() == pytest.approx([expected])


@given(pairs)
@settings(deadline=None)
def test_an_interval_lies_within_0_and_1_and_is_the_same_every_time(rows: list[tuple[int, int]]):
    low, high = macro_f1_interval(matrix_of(rows))
    assert 0 <= low <= high <= 1
    assert macro_f1_interval(matrix_of(rows)) == (low, high)


def test_the_interval_of_macro_f1_is_bcas_of_scipy():
    """scipy resamples rows, not cells, so the two differ by the noise of their draws, a thirtieth of the width."""
    from scipy.stats import bootstrap

    rng = np.random.default_rng(0)
    truth = rng.integers(3, size=120)
    tag = np.where(rng.random(120) < 0.9, truth, rng.integers(3, size=120))

    def macro_f1(truth: np.ndarray, tag: np.ndarray) -> float:
        labels = np.arange(3)
        right = ((truth == tag) & (truth == labels[:, None])).sum(1)
        return float(np.mean(2 * right / ((truth == labels[:, None]).sum(1) + (tag == labels[:, None]).sum(1))))

    wanted = bootstrap((truth, tag), macro_f1, paired=True, vectorized=False, n_resamples=2000, method="BCa", rng=rng)
    found = macro_f1_interval(matrix_of(list(zip(truth.tolist(), tag.tolist(), strict=True)), 3))
    assert found == pytest.approx(tuple(wanted.confidence_interval), abs=0.006)


def test_the_interval_of_macro_f1_covers_what_other_samples_of_the_same_shop_give():
    rng = np.random.default_rng(1)
    shares = np.array([[0.3, 0.03, 0.02], [0.03, 0.4, 0.02], [0.04, 0.06, 0.1]])
    cells = np.nonzero(shares)
    true = f1_score(*cells, sample_weight=shares[cells], average="macro")
    intervals = [macro_f1_interval(sample.reshape(3, 3)) for sample in rng.multinomial(300, shares.ravel(), size=200)]
    covered = np.mean([low <= true <= high for low, high in intervals])
    assert 0.92 <= covered <= 0.98


def test_the_intervals_of_shares_are_wilsons():
    """Newcombe 1998, table I: 81 of 263, and 0 of 20."""
    assert share_interval(81, 263) == pytest.approx((0.2553, 0.3662), abs=5e-5)
    assert share_interval(0, 20) == pytest.approx((0.0, 0.1611), abs=5e-5)


def test_without_rows_there_is_no_interval():
    assert (share_interval(0, 0), macro_f1_interval(np.zeros((2, 2), np.int64))) == (None, None)
