"""Decided rows -> the thresholds of review that keep a promised precision, and what they do to the rows that chose them."""

from __future__ import annotations

import logging
import math
from collections.abc import Iterable, Mapping
from types import MappingProxyType
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from tagger.evaluation.guarantee import Judged, Tested, choose_threshold, lower_bound, rows_at_least, rows_for
from tagger.inference.predictor import Probabilities
from tagger.settings.options import Target
from tagger.tagging.calibration import Accepted, Review

log = logging.getLogger(__name__)


class Thresholds(NamedTuple):
    """The thresholds by the names that Calibration has: one for all labels, or one for each; none without a target."""

    review_below: float | None = None
    review_below_by_label: Mapping[str, float] = MappingProxyType({})
    review: Review | None = None


def choose_thresholds(
    decided: Probabilities,
    truth: NDArray[np.int64],
    halves: tuple[NDArray[np.int64], NDArray[np.int64]],
    labels: tuple[str, ...],
    target: Target,
    where: str,
) -> Thresholds:
    """Choose thresholds that keep the target; where the rows do not suffice, none, and warn how many would.

    decided: float32 (N, K), the probabilities by which a run decides. truth: int64 (N,). halves: int64, the rows that fitted
    the temperatures, and those that were held out, which alone test thresholds. labels share the risk that any of them misses
    the target (Bonferroni). where: what a warning begins with.
    """
    precision = target.precision
    best, (_, held_out) = decided.argmax(1), halves
    judged = Judged(decided.max(1), best == truth)
    groups = {name: best == number for number, name in enumerate(labels)} if target.per_label else {"": best >= 0}
    risk = (1 - target.confidence) / len(groups)
    tests = {}
    for name, mask in groups.items():
        fitting, testing = (judged.take(half[mask[half]]) for half in halves)
        tests[name] = choose_threshold(fitting, testing, precision, risk)
    chosen = {name: test.threshold for name, test in tests.items() if test.threshold is not None}
    if failed := {name: test for name, test in tests.items() if name not in chosen}:
        log.warning(
            "%s: precision %g with confidence %g: expected at least %d held-out rows that are all right%s, found "
            "right ones (and labelled rows like these that would do): %s; %s",
            where,
            precision,
            target.confidence,
            rows_at_least(precision, risk),
            " for each label" if target.per_label else "",
            ", ".join(_describe(name, test, precision, risk, len(truth)) for name, test in failed.items()),
            "their rows go to review" if chosen else "no review_below is chosen",
        )
    by_label = {name: _accepted([test], risk) for name, test in tests.items() if target.per_label}
    whole = _accepted(tests.values(), None if target.per_label else risk)
    review = Review(target=precision, confidence=target.confidence, rows=len(held_out), by_label=by_label, **whole.model_dump())
    return Thresholds(None, chosen, review) if target.per_label else Thresholds(chosen.get(""), {}, review)


def _describe(name: str, test: Tested, precision: float, risk: float, rows: int) -> str:
    """Say what the first threshold that was tested accepts, and how many labelled rows would do if all were like that."""
    prefix = f"{name} " if name else ""
    if not test.accepted:
        return f"{prefix}none"
    needed = rows_for(test.correct / test.accepted, precision, risk)
    enough = "no number" if needed is None else f"about {math.ceil(needed * rows / test.accepted):,}"
    return f"{prefix}{test.correct} of {test.accepted} ({enough})"


def _accepted(tests: Iterable[Tested], risk: float | None) -> Accepted:
    """Return what the thresholds that were found accept together; risk: that at which they were tested, if it was together."""
    passed = [test for test in tests if test.threshold is not None]
    rows, right = sum(test.accepted for test in passed), sum(test.correct for test in passed)
    if not rows:
        return Accepted(accepted=0, precision=None, lower_bound=None)
    bound = None if risk is None else lower_bound(rows, right, risk)
    return Accepted(accepted=rows, precision=right / rows, lower_bound=bound)
