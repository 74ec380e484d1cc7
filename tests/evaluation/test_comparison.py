"""Figures of systems that were tested on the same draws, and what is said of them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
from scipy.stats import norm

from tagger.evaluation.comparison import Answer, Score, notes, score, spread

TRUTHS = [np.asarray([0, 1, 0, 1])] * 2


def answer(labels: Sequence[int], method: str | None = None, seconds: float = 1.0) -> Answer:
    """Labels that a system is sure of."""
    return Answer(np.eye(2, dtype=np.float32)[labels], seconds, method)


RIGHT, ONE_WRONG, TWO_WRONG = answer([0, 1, 0, 1]), answer([0, 1, 0, 0]), answer([0, 0, 0, 0])


def scores(shots: int = 12, **systems: Answer) -> list[Score]:
    return score(TRUTHS, {system.replace("_", "-"): [one, one] for system, one in systems.items()}, 2, shots)


def test_the_interval_is_that_of_a_mean():
    values = np.random.default_rng(3).normal(0.8, 0.1, 400)
    found = spread(values.tolist())
    half = norm.ppf(0.975) * values.std(ddof=1) / 20
    assert (found.low, found.high) == pytest.approx((values.mean() - half, values.mean() + half), abs=0.002)


def test_a_figure_that_never_changes_has_an_interval_of_no_width():
    found = spread([1.0, 1.0, 1.0])
    assert (found.mean, found.standard_deviation, found.low, found.high) == (1.0, 0.0, 1.0, 1.0)


def test_a_score_says_accuracy_difference_time_and_methods():
    answers = {"zero-shot": [RIGHT, ONE_WRONG], "head": [answer([0, 1, 0, 0], "gda", 1.0), answer([0, 1, 0, 1], "clap", 2.0)]}
    zero_shot, head = score(TRUTHS, answers, 2, 4)
    assert (zero_shot.difference, zero_shot.methods) == (None, {})
    assert head.accuracy.of_draws == (0.75, 1.0)
    assert head.difference is not None
    assert head.difference.of_draws == (-0.25, 0.25)
    assert head.confusion_matrix == ((4, 0), (1, 3))
    assert (head.seconds, head.methods) == (1.5, {"gda": 1, "clap": 1})


def test_a_hybrid_that_is_worse_than_a_part_is_said():
    [line] = notes(scores(resnet18=RIGHT, zero_shot=ONE_WRONG, hybrid=ONE_WRONG))
    assert line == "With 12 shots the hybrid (75.0%) is more than 1 point worse than resnet18 alone (100.0%): use that."
    assert list(notes(scores(zero_shot=ONE_WRONG, hybrid=ONE_WRONG, gda=RIGHT))) == []  # a head is no part of it


def test_what_is_surely_below_zero_shot_is_said():
    found = scores(1, zero_shot=ONE_WRONG, resnet18=TWO_WRONG, gda=RIGHT, linear=TWO_WRONG, clap=ONE_WRONG)
    assert list(notes(found)) == ["With 1 shot the interval is wholly below zero-shot for resnet18, linear."]
    assert list(notes(scores(1, gda=RIGHT, zero_shot=ONE_WRONG))) == []  # it is not the yardstick


def test_what_the_head_was_is_said():
    heads = [answer([0, 1, 0, 1], method) for method in ("zero-shot", "gda", "zero-shot")]
    found = score(TRUTHS[:1] * 3, {"head": heads}, 2, 4)
    assert list(notes(found)) == ["With 4 shots the head was zero-shot in 2, gda in 1 of 3 draws."]
