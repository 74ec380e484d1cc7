"""The threshold of prediction sets: the rank that split conformal prediction asks for, and its promise."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tagger.evaluation.conformal import SLACK, choose_set_threshold, rows_for_sets

COVERAGES = st.floats(0.01, 0.99)
PROBABILITIES = st.lists(st.floats(0, 1, width=32), min_size=1, max_size=30)


def choose(probabilities: list[float], coverage: float) -> float | None:
    return choose_set_threshold(np.array(probabilities, np.float32), coverage)


@pytest.mark.parametrize(("coverage", "rows"), [(0.5, 1), (0.8, 4), (0.9, 9), (0.95, 19), (0.99, 99), (0.7, 3), (0.999, 999)])
def test_a_promise_takes_so_many_rows_at_the_least(coverage: float, rows: int):
    assert rows_for_sets(coverage) == rows
    assert choose([0.5] * rows, coverage) == pytest.approx(0.5, rel=2 * SLACK)
    assert choose([0.5] * (rows - 1), coverage) is None


@pytest.mark.parametrize(("coverage", "expected"), [(0.1, 0.9), (0.5, 0.5), (0.51, 0.4), (0.9, 0.1)])
def test_the_threshold_is_the_probability_of_that_rank(coverage: float, expected: float):
    nine = [0.4, 0.9, 0.1, 0.5, 0.3, 0.8, 0.2, 0.7, 0.6]
    assert choose(nine, coverage) == pytest.approx(expected, rel=2 * SLACK)


def test_a_row_that_chose_the_threshold_is_not_lost_by_the_last_digits():
    threshold = choose([0.3] * 20, 0.9)
    assert threshold is not None
    assert np.float32(threshold) == threshold < np.nextafter(np.float32(0.3), np.float32(0))


@given(PROBABILITIES, COVERAGES)
def test_of_any_rows_each_left_out_in_turn_the_promised_share_is_held(rows: list[float], coverage: float):
    """This is the promise itself: which of rows that are drawn alike is the new one is a matter of chance."""
    held = 0
    for number, probability in enumerate(rows):
        threshold = choose(rows[:number] + rows[number + 1 :], coverage)
        held += threshold is None or np.float32(probability) >= np.float32(threshold)
    assert held >= coverage * len(rows) - 1e-9


@given(PROBABILITIES, COVERAGES, COVERAGES)
def test_a_larger_coverage_never_has_a_higher_threshold(rows: list[float], one: float, other: float):
    low, high = sorted((one, other))
    assert (choose(rows, high) or 0) <= (choose(rows, low) or 0)
