"""Measure how often promises of `tagger calibrate` are kept, and what they cost.

Calibrations are simulated whose truth is known. Rows are drawn, with replacement, from a catalogue of 50,000 with known
probabilities of five labels. What is calibrated are their logits: as they are, too sharp, too flat, or from flat to sharp with
the best label, which no temperature mends. Each draw goes through the very function that the command calls with a manifest's
rows: it fits a temperature and chooses thresholds, one for all labels and one for each, and prediction sets. What they come to is
computed over the whole catalogue. Beside them stands the rule before there was a promise: the lowest threshold whose observed
precision on the fitting half is the target.

python tests/benchmarks/guarantees.py
"""

from __future__ import annotations

import argparse
import logging
import math
import time
from typing import NamedTuple

import numpy as np
import torch
from common import machine, print_table
from numpy.typing import NDArray
from scipy import special

from tagger.evaluation.guarantee import Judged
from tagger.settings.attributes import Attribute
from tagger.settings.options import Target
from tagger.tagging.calibration import Calibration
from tagger.tagging.decisions import log_probabilities, set_sizes
from tagger.training.calibration import Rule, Uncalibrated, fit_calibration
from tagger.training.split import halve
from tagger.training.temperature import softmax

LABELS, ROWS = ("a", "b", "c", "d", "e"), 50_000
SPREAD = 6.0  # standard deviation of the true logits
# What the true logits are multiplied by, in the rows of each best label.
SCORES = {
    "calibrated": (1.0, 1.0, 1.0, 1.0, 1.0),
    "overconfident": (2.0, 2.0, 2.0, 2.0, 2.0),
    "underconfident": (0.5, 0.5, 0.5, 0.5, 0.5),
    "unequal": (0.5, 0.75, 1.0, 1.5, 2.0),
}
CONFIDENCE = 0.9


class Catalogue(NamedTuple):
    """Rows whose scores have the true logits times something.

    scores: (N, K). true: (N, K), the probabilities of labels. label: (N,), the best one. gaps: float32 (N, K), the scores below
    the highest one, in descending order. holding: (N, K), the probability that the right label is among the first ones.
    """

    scores: NDArray[np.float32]
    true: NDArray[np.float64]
    label: NDArray[np.int64]
    gaps: NDArray[np.float32]
    holding: NDArray[np.float64]

    @property
    def right(self) -> NDArray[np.float64]:
        """The probability that the best label is right."""
        return self.holding[:, 0]

    def ranked(self, temperature: float) -> NDArray[np.float32]:
        """Return float32 (N, K), the calibrated probabilities of each row, the highest first."""
        powers = np.exp(self.gaps / np.float32(temperature))
        return powers / powers.sum(1, keepdims=True)


def make_catalogue(sharpness: tuple[float, ...]) -> Catalogue:
    """Make the same rows every time."""
    logits = SPREAD * np.random.default_rng(0).normal(size=(ROWS, len(LABELS)))
    true = special.softmax(logits, axis=1)
    label = logits.argmax(1)
    scores = (logits * np.array(sharpness)[label, None]).astype(np.float32)
    ranked = -np.sort(-scores, axis=1)
    holding = np.cumsum(-np.sort(-true, axis=1), axis=1)
    return Catalogue(scores, true, label, ranked - ranked[:, :1], holding)


class Outcome(NamedTuple):
    """What a rule came to: whether it chose, whether a precision is below the target, the share of the catalogue to review."""

    chose: bool
    missed: bool
    reviewed: float


class Sets(NamedTuple):
    """The share of the catalogue's sets that hold the right label, and the labels of a set."""

    coverage: float
    size: float


def outcome_of(catalogue: Catalogue, accepted: NDArray[np.bool_], groups: NDArray[np.int64], target: float) -> Outcome:
    """Judge the precision of each group's accepted rows."""
    rows = np.bincount(groups[accepted])
    right = np.bincount(groups[accepted], weights=catalogue.right[accepted])
    return Outcome(bool(accepted.any()), bool((right < target * rows).any()), 1 - float(accepted.mean()))


def lowest_observed(rows: Judged, target: float) -> float:
    """Return the lowest confidence from which on the observed precision is the target: the rule before there was a promise."""
    order = np.argsort(-rows.confidence)
    precision = np.cumsum(rows.correct[order]) / np.arange(1, len(order) + 1)
    last = np.append(np.diff(rows.confidence[order]) != 0, True)  # rows of one confidence pass together
    enough = np.flatnonzero((precision >= target) & last)
    return float(rows.confidence[order[enough[-1]]]) if len(enough) else math.inf


def draw(
    catalogue: Catalogue, attribute: Attribute, rows: int, targets: list[float], rng: np.random.Generator
) -> tuple[Sets, list[tuple[Outcome, Outcome, Outcome]]]:
    """Calibrate on so many rows; return what came of the sets, and for each target of the old rule and of both promises."""
    drawn, seed = rng.integers(ROWS, size=rows), int(rng.integers(2**31))
    truth = (catalogue.true[drawn].cumsum(1) < rng.random((rows, 1))).sum(1).clip(max=len(LABELS) - 1)
    sources = {"clip": Uncalibrated(log_probabilities(softmax(catalogue.scores[drawn])), 1.0, "", "")}

    def calibrate(target: float, per_label: bool) -> Calibration:
        wanted = Target(precision=target, confidence=CONFIDENCE, per_label=per_label)
        return fit_calibration("simulated", attribute, sources, truth, Rule("none", None), wanted, seed)

    found = [(calibrate(target, False), calibrate(target, True)) for target in targets]
    ranked = catalogue.ranked(found[0][0].sources["clip"].temperature)
    fitting, _ = halve(rows, seed)
    judged = Judged(ranked[drawn, 0], catalogue.label[drawn] == truth).take(fitting)
    everything = np.zeros_like(catalogue.label)
    outcomes = []
    for target, (for_all, for_each) in zip(targets, found, strict=True):
        at_least = [for_each.review_below_by_label.get(name, math.inf) for name in LABELS]
        none = math.inf if for_all.review_below is None else for_all.review_below
        outcomes.append(
            (
                outcome_of(catalogue, ranked[:, 0] >= np.float32(lowest_observed(judged, target)), everything, target),
                outcome_of(catalogue, ranked[:, 0] >= np.float32(none), everything, target),
                outcome_of(catalogue, ranked[:, 0] >= np.float32(at_least)[catalogue.label], catalogue.label, target),
            )
        )
    sets = found[0][0].prediction_sets
    assert sets is not None
    sizes = set_sizes(ranked, sets.threshold or 0.0)
    return Sets(float(catalogue.holding[np.arange(ROWS), sizes - 1].mean()), float(sizes.mean())), outcomes


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--draws", type=int, default=500)
    parser.add_argument("--rows", type=int, nargs="+", default=[200, 1_000, 5_000])
    parser.add_argument("--targets", type=float, nargs="+", default=[0.9, 0.95, 0.98])
    parser.add_argument("--coverage", type=float, default=0.9, help="of prediction sets")
    options = parser.parse_args()
    logging.disable(logging.WARNING)  # that rows are too few is counted
    torch.set_num_threads(1)  # for so few rows, more are slower
    print(f"{options.draws} draws. {machine()}")
    attribute = Attribute(name="kind", labels=LABELS, prediction_sets=options.coverage)
    began, of_precision, of_sets = time.perf_counter(), [], []
    for scores, sharpness in SCORES.items():
        catalogue = make_catalogue(sharpness)
        for rows in options.rows:
            rng = np.random.default_rng(rows)
            drawn = [draw(catalogue, attribute, rows, options.targets, rng) for _ in range(options.draws)]
            of_sets.append([scores, f"{rows:,}", *set_figures([sets for sets, _ in drawn], options.coverage, rows - rows // 2)])
            for target, found in zip(options.targets, zip(*(outcomes for _, outcomes in drawn), strict=True), strict=True):
                by_rule = zip(*found, strict=True)
                of_precision.append([scores, f"{rows:,}", target, *(value for rule in by_rule for value in figures(rule))])
    heads = [f"{rule}: {what}" for rule in ("before", "promised", "per label") for what in ("missed", "none", "review")]
    print_table(["scores", "rows", "target", *heads], of_precision)
    print_table(["scores", "rows", "right label held", "theory", "90 % of draws", "labels in a set"], of_sets)
    print(f"\nAccuracy {catalogue.right.mean():.1%}. {time.perf_counter() - began:.0f} s.")


def figures(outcomes: tuple[Outcome, ...]) -> list[str]:
    """Format the shares of draws that missed and that chose nothing, and the mean share to review (all, where nothing is)."""
    chose, missed, reviewed = np.mean(outcomes, axis=0)
    return [f"{missed:.1%}", f"{1 - chose:.1%}", f"{reviewed:.1%}"]


def set_figures(drawn: list[Sets], coverage: float, held_out: int) -> list[str]:
    """Format the mean coverage with two standard errors, what theory says of it, the range of most draws, and the mean size."""
    found, sizes = np.transpose(drawn)
    error = 2 * found.std(ddof=1) / math.sqrt(len(found))
    low, high = np.quantile(found, [0.05, 0.95])
    theory = f"{coverage:.1%} to {coverage + 1 / (held_out + 1):.1%}"
    return [f"{found.mean():.2%} ± {error:.2%}", theory, f"{low:.1%} to {high:.1%}", f"{sizes.mean():.2f}"]


if __name__ == "__main__":
    main()
