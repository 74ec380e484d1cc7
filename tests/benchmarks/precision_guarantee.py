"""Measure how often a promised precision is missed, and what the promise costs in reviewed rows.

Calibrations are simulated whose true precision is known. Rows are drawn, with replacement, from a catalogue of a million rows.
Each has a known probability that its best label is right, and a confidence that is calibrated, too high or too low (no
temperature is fitted). Each draw chooses thresholds as `tagger calibrate` does, one for all labels and one for each, and as it
once did: the lowest whose observed precision on the fitting half is the target. The true precision is that of the whole
catalogue from there on.

python tests/benchmarks/precision_guarantee.py
"""

from __future__ import annotations

import argparse
import time
from typing import NamedTuple

import numpy as np
from common import machine, print_table
from numpy.typing import NDArray
from scipy import special

from tagger.evaluation.guarantee import Judged, Tested, choose_threshold
from tagger.training.split import halve

LABELS, ROWS = 5, 1_000_000
SPREAD = 6.0  # standard deviation of the true logits
SCORES = {"calibrated": 1.0, "overconfident": 2.0, "underconfident": 0.5}  # what the true logits are multiplied by
CONFIDENCE = 0.9


class Group(NamedTuple):
    """Some rows of the catalogue, the most confident first: confidences, and the precision of each and all before it."""

    descending: NDArray[np.float32]
    precision: NDArray[np.float64]

    def at(self, threshold: float | None) -> tuple[int, float]:
        """Return how many rows a threshold accepts, and their precision; 1 where it accepts none."""
        count = 0 if threshold is None else int(np.searchsorted(-self.descending, -np.float32(threshold), side="right"))
        return count, float(self.precision[count - 1]) if count else 1.0


class Catalogue(NamedTuple):
    """Each row's confidence, best label and the probability that it is right; and the rows in order, all and by label."""

    confidence: NDArray[np.float32]
    label: NDArray[np.int64]
    right: NDArray[np.float64]
    everything: Group
    by_label: list[Group]


def make_catalogue(sharpness: float) -> Catalogue:
    """Make the same rows every time; their scores have the true logits times `sharpness`."""
    logits = SPREAD * np.random.default_rng(0).normal(size=(ROWS, LABELS))
    label, true = logits.argmax(1), special.softmax(logits, axis=1)
    confidence = special.softmax(logits * sharpness, axis=1).max(1).astype(np.float32)
    right = true[np.arange(ROWS), label]
    groups = [_group(confidence[mask], right[mask]) for mask in (label >= 0, *(label == one for one in range(LABELS)))]
    return Catalogue(confidence, label, right, groups[0], groups[1:])


def _group(confidence: NDArray[np.float32], right: NDArray[np.float64]) -> Group:
    order = np.argsort(-confidence)
    return Group(confidence[order], np.cumsum(right[order]) / np.arange(1, len(right) + 1))


def lowest_observed(rows: Judged, target: float) -> float | None:
    """Return the lowest confidence from which on the observed precision is the target: the rule before there was a promise."""
    order = np.argsort(-rows.confidence)
    precision = np.cumsum(rows.correct[order]) / np.arange(1, len(order) + 1)
    last = np.append(np.diff(rows.confidence[order]) != 0, True)  # rows of one confidence pass together
    enough = np.flatnonzero((precision >= target) & last)
    return float(rows.confidence[order[enough[-1]]]) if len(enough) else None


class Outcome(NamedTuple):
    """What a rule came to: whether it chose, whether a precision is below the target, the share of the catalogue to review."""

    chose: bool
    missed: bool
    reviewed: float


def outcome(groups: list[Group], thresholds: list[float | None], target: float) -> Outcome:
    found = [group.at(threshold) for group, threshold in zip(groups, thresholds, strict=True)]
    accepted = sum(count for count, _ in found)
    return Outcome(accepted > 0, any(precision < target for _, precision in found), 1 - accepted / ROWS)


def draw(catalogue: Catalogue, rows: int, target: float, rng: np.random.Generator) -> tuple[Outcome, Outcome, Outcome]:
    """Calibrate once on so many rows; return what came of the old rule, of one threshold and of one for each label."""
    drawn = rng.integers(ROWS, size=rows)
    judged = Judged(catalogue.confidence[drawn], rng.random(rows) < catalogue.right[drawn])
    fitting, held_out = halve(rows, int(rng.integers(2**31)))
    label = catalogue.label[drawn]

    def choose(fit: NDArray[np.int64], test: NDArray[np.int64], risk: float) -> Tested:
        return choose_threshold(judged.take(fit), judged.take(test), target, risk)

    risk = 1 - CONFIDENCE
    each = [choose(fitting[label[fitting] == one], held_out[label[held_out] == one], risk / LABELS) for one in range(LABELS)]
    return (
        outcome([catalogue.everything], [lowest_observed(judged.take(fitting), target)], target),
        outcome([catalogue.everything], [choose(fitting, held_out, risk).threshold], target),
        outcome(catalogue.by_label, [one.threshold for one in each], target),
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--draws", type=int, default=500)
    parser.add_argument("--rows", type=int, nargs="+", default=[200, 1_000, 5_000])
    parser.add_argument("--targets", type=float, nargs="+", default=[0.9, 0.95, 0.98])
    options = parser.parse_args()
    print(f"{options.draws} draws. {machine()}")
    began, table = time.perf_counter(), []
    for scores, sharpness in SCORES.items():
        catalogue = make_catalogue(sharpness)
        for rows in options.rows:
            for target in options.targets:
                rng = np.random.default_rng([rows, round(1000 * target)])
                found = zip(*(draw(catalogue, rows, target, rng) for _ in range(options.draws)), strict=True)
                table.append([scores, f"{rows:,}", target, *(figure for rule in found for figure in figures(rule))])
    heads = [f"{rule}: {what}" for rule in ("before", "promised", "per label") for what in ("missed", "none", "review")]
    print_table(["scores", "rows", "target", *heads], table)
    print(f"\nAccuracy {catalogue.right.mean():.1%}. {time.perf_counter() - began:.0f} s.")


def figures(outcomes: tuple[Outcome, ...]) -> list[str]:
    """Format the shares of draws that missed and that chose nothing, and the mean share to review (all, where nothing is)."""
    chose, missed, reviewed = np.mean(outcomes, axis=0)
    return [f"{missed:.1%}", f"{1 - chose:.1%}", f"{reviewed:.1%}"]


if __name__ == "__main__":
    main()
