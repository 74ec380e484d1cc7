"""Thresholds of review, for all labels and for each, and what is said where the rows are too few."""

from __future__ import annotations

import logging

import numpy as np
import pytest

from tagger.core.errors import UsageError
from tagger.settings.options import Target
from tagger.tagging.calibration import Accepted
from tagger.training.review import Thresholds, choose_thresholds
from tagger.training.split import halve

LABELS = ("hat", "bag")


def choose(rows: list[tuple[float, float, int, int]], target: Target) -> Thresholds:
    """Choose by (probability of a hat, of a bag, truth, times) that are the same in both halves."""
    probabilities = np.concatenate([np.tile(np.float32([row[:2]]), (row[3], 1)) for row in rows])
    truth = np.concatenate([np.full(row[3], row[2]) for row in rows])
    half = np.arange(len(truth))
    return choose_thresholds(
        np.tile(probabilities, (2, 1)), np.tile(truth, 2), (half, half + len(half)), LABELS, target, 'm: attribute "kind"'
    )


def test_all_labels_share_a_threshold():
    # 30 right of 30 have the p-value 0.9 ** 30 = 0.04, 30 of 34 one of 0.75.
    chosen = choose([(0.9, 0.1, 0, 20), (0.1, 0.9, 1, 10), (0.6, 0.4, 1, 4)], Target(precision=0.9))
    assert (chosen.review_below, chosen.review_below_by_label) == (np.float32(0.9), {})
    assert chosen.review is not None
    assert chosen.review.model_dump() == {
        "accepted": 30,
        "precision": 1.0,
        "lower_bound": pytest.approx(0.1 ** (1 / 30)),
        "target": 0.9,
        "confidence": 0.9,
        "rows": 34,
        "by_label": {},
    }


def test_each_label_has_a_threshold_at_its_part_of_the_risk(caplog: pytest.LogCaptureFixture):
    # A label's risk is 0.05, which takes 29 right rows; with 0.1, 22 would do.
    target = Target(precision=0.9, per_label=True)
    chosen = choose([(0.8, 0.2, 0, 29), (0.3, 0.7, 1, 27), (0.4, 0.6, 0, 1)], target)
    assert (chosen.review_below, chosen.review_below_by_label) == (None, {"hat": np.float32(0.8)})
    assert chosen.review is not None
    hat, bag = chosen.review.by_label["hat"], chosen.review.by_label["bag"]
    assert hat.lower_bound == pytest.approx(0.05 ** (1 / 29))
    assert (hat.accepted, hat.precision) == (29, 1.0)
    assert bag == Accepted(accepted=0, precision=None, lower_bound=None)
    assert (chosen.review.accepted, chosen.review.rows) == (29, 57)
    assert chosen.review.lower_bound is None  # no test was of all labels together
    assert caplog.messages == [
        'm: attribute "kind": precision 0.9 with confidence 0.9: expected at least 29 held-out rows that are all right for each '
        "label, found right ones (and labelled rows like these that would do): bag 27 of 27 (about 123); their rows go to review"
    ]


@pytest.mark.parametrize(
    ("rows", "confidence", "least", "found"),
    [
        ([(0.9, 0.1, 0, 10)], 0.9, 22, "10 of 10 (about 44)"),
        ([(0.9, 0.1, 0, 9), (0.9, 0.1, 1, 1)], 0.9, 22, "9 of 10 (no number)"),
        # ((2.3263 * 0.3 + 0.8416 * 0.2179) / 0.05) squared are 311 held-out rows
        ([(0.9, 0.1, 0, 95), (0.9, 0.1, 1, 5)], 0.99, 44, "95 of 100 (about 622)"),
    ],
)
def test_too_few_rows_choose_nothing_and_say_how_many_would(
    caplog: pytest.LogCaptureFixture, rows: list[tuple[float, float, int, int]], confidence: float, least: int, found: str
):
    chosen = choose(rows, Target(precision=0.9, confidence=confidence))
    assert (chosen.review_below, chosen.review_below_by_label) == (None, {})
    assert chosen.review is not None
    assert (chosen.review.accepted, chosen.review.precision) == (0, None)
    assert caplog.messages == [
        f'm: attribute "kind": precision 0.9 with confidence {confidence:g}: expected at least {least} held-out rows that are '
        f"all right, found right ones (and labelled rows like these that would do): {found}; no review_below is chosen"
    ]


def test_rows_that_suffice_say_nothing(caplog: pytest.LogCaptureFixture):
    caplog.set_level(logging.INFO)
    choose([(0.9, 0.1, 0, 22)], Target(precision=0.9))
    assert caplog.messages == []


@pytest.mark.parametrize("values", [{"precision": 1.0}, {"precision": 0.0}, {"precision": 0.9, "confidence": 1.0}])
def test_a_promise_that_nobody_can_keep_is_refused(values: dict[str, float]):
    with pytest.raises(UsageError, match="expected a share above 0 and below 1, found"):
        Target(**values)  # type: ignore[arg-type]


@pytest.mark.parametrize("count", [0, 1, 2, 7])
def test_halves_hold_every_row_once(count: int):
    fitting, held_out = halve(count, seed=3)
    assert (len(fitting), len(held_out)) == (count // 2, count - count // 2)
    assert sorted([*fitting, *held_out]) == list(range(count))
