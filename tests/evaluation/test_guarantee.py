"""Thresholds with a promised precision, computed by hand on a few rows."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from tagger.evaluation.guarantee import (
    STEPS,
    Judged,
    choose_threshold,
    lower_bound,
    p_values,
    rows_at_least,
    rows_for,
    thresholds_in_order,
)

RISK = 0.13  # of a half-right threshold, 3 right rows of 3 have the probability 1/8

ROWS = st.lists(st.tuples(st.sampled_from([0.5, 0.6, 0.7, 0.8, 0.9]), st.booleans()), max_size=60)


def judged(*rows: tuple[float, bool]) -> Judged:
    return Judged(np.array([value for value, _ in rows], np.float32), np.array([right for _, right in rows], np.bool_))


FITTING = judged((0.9, True), (0.9, True), (0.9, True), (0.6, False))  # the highest threshold first: 3 of 3, then 3 of 4


@pytest.mark.parametrize(("target", "risk", "rows"), [(0.5, 0.125, 3), (0.9, 0.1, 22), (0.95, 0.1, 45), (0.98, 0.1, 114)])
def test_a_promise_takes_so_many_right_rows_at_the_least(target: float, risk: float, rows: int):
    assert rows_at_least(target, risk) == rows
    assert [p_values(np.array([n]), np.array([n]), target)[0] <= risk for n in (rows - 1, rows)] == [False, True]


def test_more_rows_are_needed_where_some_are_wrong():
    assert rows_for(1.0, 0.95, 0.1) == 45
    assert rows_for(0.99, 0.98, 0.1) == 693  # ((1.2816 * 0.14 + 0.8416 * 0.0995) / 0.01) squared
    assert rows_for(0.95, 0.95, 0.1) is None
    rows = rows_for(0.97, 0.95, 0.1)
    assert rows is not None
    enough = next(right for right in range(rows) if stats.binom.sf(right - 1, rows, 0.95) <= 0.1)
    assert stats.binom.sf(enough - 1, rows, 0.97) == pytest.approx(0.8, abs=0.05)


def test_p_values_are_the_tails_of_a_fair_coin():
    assert p_values(np.array([0, 3, 3, 3, 4]), np.array([0, 0, 2, 3, 3]), 0.5).tolist() == [1, 1, 1 / 2, 1 / 8, 5 / 16]


def test_the_lower_bound_is_that_of_clopper_and_pearson():
    assert lower_bound(5, 0, 0.1) == 0
    assert lower_bound(3, 3, 0.125) == pytest.approx(0.5)
    assert lower_bound(2, 1, 0.19) == pytest.approx(0.1)  # 1 - 0.9 * 0.9


@pytest.mark.parametrize(
    ("held_out", "expected"),
    [
        ([*[(0.9, True)] * 3, (0.6, True)], (pytest.approx(0.6), 4, 4)),
        ([*[(0.9, True)] * 3, *[(0.7, False)] * 2], (pytest.approx(0.9), 3, 3)),
        ([*[(0.9, True)] * 2, *[(0.7, True)] * 9], (None, 2, 2)),  # the first test has failed: no other is made
        ([(0.5, True)] * 9, (None, 0, 0)),
        ([], (None, 0, 0)),
    ],
)
def test_thresholds_are_tested_up_to_the_first_that_fails(held_out: list[tuple[float, bool]], expected: tuple[object, ...]):
    assert tuple(choose_threshold(FITTING, judged(*held_out), 0.5, RISK)) == expected


def test_without_a_row_to_order_them_by_there_is_no_threshold():
    assert choose_threshold(judged(), FITTING, 0.5, RISK) == (None, 0, 0)


def test_the_first_threshold_is_the_one_that_other_rows_speak_most_clearly_for():
    rows = judged((0.9, True), (0.8, True), (0.7, True), (0.6, False), (0.5, False))
    assert thresholds_in_order(rows, 0.5).tolist() == pytest.approx([0.7, 0.6, 0.5])
    assert len(thresholds_in_order(judged(*((number / 1000, False) for number in range(1000))), 0.5)) == STEPS


def value(threshold: float | None) -> float:
    return math.inf if threshold is None else threshold


@given(ROWS, ROWS, st.floats(0.3, 0.99), st.floats(0.01, 0.6), st.floats(0.01, 0.6))
@settings(deadline=None)
def test_a_higher_confidence_never_gives_a_lower_threshold(
    fitting: list[tuple[float, bool]], held_out: list[tuple[float, bool]], target: float, one: float, other: float
):
    low, high = (choose_threshold(judged(*fitting), judged(*held_out), target, risk) for risk in sorted((one, other)))
    assert value(low.threshold) >= value(high.threshold)


@given(ROWS, ROWS, st.floats(0.3, 0.99), st.floats(0.01, 0.6))
@settings(deadline=None)
def test_what_is_accepted_has_a_lower_bound_of_the_target(
    fitting: list[tuple[float, bool]], held_out: list[tuple[float, bool]], target: float, risk: float
):
    threshold, accepted, correct = choose_threshold(judged(*fitting), judged(*held_out), target, risk)
    if threshold is None:
        return
    rights = [right for value, right in held_out if np.float32(value) >= threshold]
    assert (len(rights), sum(rights)) == (accepted, correct)
    assert lower_bound(accepted, correct, risk) >= target - 1e-9
    assert stats.binomtest(correct, accepted, target, alternative="greater").pvalue <= risk + 1e-9
