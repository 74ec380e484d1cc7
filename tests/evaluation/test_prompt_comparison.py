"""Figures of prompt sets by hand: the choice on one half, the judgement on the other."""

from __future__ import annotations

import numpy as np
import pytest

from tagger.evaluation.intervals import share_interval
from tagger.evaluation.prompt_comparison import PromptComparison, Tried, compare_prompts

LABELS = ("dress", "hat", "shoes")
TRUTH = np.asarray([0, 1, 2] * 40)
HALVES = (np.arange(60), np.arange(60, 120))
PROMPTS = (("a",), ("b",), ("c",))


def wrong_in(rows: range, tag: int) -> np.ndarray:
    """Tags that are right but in these rows."""
    tags = TRUTH.copy()
    tags[rows] = tag
    return tags


def compared(*, control: bool = False, **tags: list[np.ndarray]) -> PromptComparison:
    sets = {name: Tried(("{label}",), PROMPTS, control and len(draws) > 1, draws) for name, draws in tags.items()}
    return compare_prompts(TRUTH, np.arange(120), HALVES, sets, LABELS, "m.parquet", ("category", "clip"))


def test_the_figures_are_those_of_the_held_out_rows():
    found = compared(settings=[wrong_in(range(60, 90, 3), 1)], other=[wrong_in(range(0, 30), 1)])
    first, other = found.scores
    assert (first.choosing_accuracy, first.accuracy) == (1, pytest.approx(50 / 60))
    assert first.accuracy_interval == share_interval(50, 60)
    # dress: 10 of 20 found, all right; hat: 20 found of 30 so tagged; shoes: all.
    assert first.macro_f1 == pytest.approx((2 * 10 / 30 + 2 * 20 / 50 + 1) / 3)
    assert (other.choosing_accuracy, other.accuracy) == (pytest.approx(40 / 60), 1)
    assert other.difference is not None
    assert other.difference.mean == pytest.approx(10 / 60)
    [pair] = found.confused
    assert (pair.labels, pair.rows) == (("dress", "hat"), {"settings": 10, "other": 0})
    # What is better on the held-out rows alone is not chosen for it.
    assert (found.chosen, found.better) == ("settings", False)
    assert found.to_text().endswith("No set was better than the prompts of the settings on the rows that chose: they stay.")


def test_a_better_set_is_chosen_and_said_with_its_certainty():
    found = compared(settings=[wrong_in(range(0, 120, 3), 1)], other=[wrong_in(range(0, 12, 3), 1)])
    assert (found.chosen, found.better) == ("other", True)
    assert "Best on the rows that chose: other. On the held-out rows +33.3 points (" in found.to_text()
    assert "above 0 in 100.0% of resamples: better." in found.to_text()


def test_luck_in_the_choosing_half_is_not_better():
    found = compared(settings=[wrong_in(range(0, 30, 3), 1)], other=[wrong_in(range(60, 66, 3), 1)])
    assert (found.chosen, found.better) == ("other", False)
    assert "not surely better (95% would be): the prompts of the settings stay" in found.to_text()


def test_a_control_is_the_mean_of_its_draws_and_never_chosen():
    found = compared(settings=[wrong_in(range(0, 120, 3), 1)], random=[TRUTH, wrong_in(range(60, 90), 1)], control=True)
    control = found.score_of("random")
    assert control.accuracy == pytest.approx((1 + 40 / 60) / 2)
    assert control.difference is not None
    assert control.difference.mean == pytest.approx((1 + 40 / 60) / 2 - 40 / 60)
    assert found.chosen == "settings"
    assert "random (control, 2 draws)" in found.to_text()


def test_it_survives_json():
    found = compared(settings=[TRUTH], other=[TRUTH])
    assert PromptComparison.model_validate_json(found.to_json()) == found
    assert found.confused == ()
