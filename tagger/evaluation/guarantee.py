"""Choose the confidence from which on a precision is promised, and say how many rows a promise takes.

By Learn then Test (Angelopoulos, Bates, Candès, Jordan and Lei, Annals of Applied Statistics 2025). The hypothesis of a
threshold is that the rows which it accepts are less precise than the target. Where rows are drawn independently, those that a
given threshold accepts are right independently of each other, each with that precision: of however many there are, the right
ones are binomial, and the test is exact. Other rows fix the thresholds and their order ("split fixed sequence testing"). They
are tested up to the first that fails, each at the whole risk. If any wrong one passes, so does the first wrong one of the
order, and the probability of that is the risk at most. It is a share of all draws of rows, not of those in which a threshold is
found.
"""

from __future__ import annotations

import math
from statistics import NormalDist
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy import special

STEPS = 100  # thresholds that are tested at the most: each accepts a hundredth of the rows more than the one before
POWER = 0.8  # share of draws in which `rows_for` rows are to be enough


class Judged(NamedTuple):
    """Decided rows: their confidence, float32 (N,), and whether the label is right, bool (N,)."""

    confidence: NDArray[np.float32]
    correct: NDArray[np.bool_]

    def take(self, rows: NDArray[np.int64]) -> Judged:
        """Return these rows, by their indices."""
        return Judged(self.confidence[rows], self.correct[rows])

    def accepted(self, thresholds: NDArray[np.float32]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Return int64 (T,), how many rows have these confidences (T,) or higher ones, and how many of those are right."""
        order = np.argsort(-self.confidence)
        rows = np.searchsorted(-self.confidence[order], -thresholds, side="right")
        return rows, np.append(0, np.cumsum(self.correct[order]))[rows]


class Tested(NamedTuple):
    """The lowest threshold that passed, and how many of the held-out rows it accepts, and accepts rightly.

    threshold: None where none passed; then the numbers are those of the first that was tested, or 0.
    """

    threshold: float | None
    accepted: int
    correct: int


def choose_threshold(fitting: Judged, held_out: Judged, target: float, risk: float) -> Tested:
    """Choose the lowest threshold with a precision of `target`; that it has less has the probability `risk` at the most.

    fitting: rows that fix which thresholds are tested; what else they were used for does not matter. held_out: rows that test
    them, drawn independently, and used for nothing before. target, risk: above 0 and below 1.
    """
    thresholds = thresholds_in_order(fitting, target)
    rows, right = held_out.accepted(thresholds)
    passed = p_values(rows, right, target) <= risk
    count = int(np.argmin(np.append(passed, False)))
    if not len(thresholds):
        return Tested(None, 0, 0)
    last = max(count - 1, 0)
    return Tested(float(thresholds[last]) if count else None, int(rows[last]), int(right[last]))


def thresholds_in_order(fitting: Judged, target: float) -> NDArray[np.float32]:
    """Return the thresholds to test, the highest first: float32 (T,), up to STEPS confidences of the rows, equally far apart.

    They begin where these rows speak most clearly for the target. Above it there are so few rows that the first test would
    often fail, and with it all. Where it is does not depend on the risk, so that a smaller one never lowers the threshold.
    """
    descending = np.sort(fitting.confidence)[::-1]
    counts = np.ceil(np.linspace(0, len(descending), STEPS + 1)[1:]).astype(np.int64)
    thresholds = np.unique(descending[counts - 1])[::-1] if len(descending) else descending
    p = p_values(*fitting.accepted(thresholds), target)
    return thresholds[int(np.argmin(p)) :] if len(p) else thresholds


def p_values(rows: NDArray[np.int64], right: NDArray[np.int64], target: float) -> NDArray[np.float64]:
    """Return float64 (T,): the probability of so many right rows, or more, where each is right with probability `target`.

    It is at most `risk` where `lower_bound` is at least `target`.
    """
    found: NDArray[np.float64] = np.where(right > 0, special.betainc(np.maximum(right, 1), rows - right + 1, target), 1.0)
    return found


def lower_bound(rows: int, right: int, risk: float) -> float:
    """Return the one-sided bound that a precision is below with probability `risk` at the most (Clopper and Pearson 1934)."""
    return float(special.betaincinv(right, rows - right + 1, risk)) if right else 0.0


def rows_at_least(target: float, risk: float) -> int:
    """Return how many accepted rows a promise takes where all of them are right."""
    return math.ceil(math.log(risk) / math.log(target))


def rows_for(precision: float, target: float, risk: float) -> int | None:
    """Return about how many accepted rows of this precision are enough in a share of POWER of draws; None: no number is.

    By the normal approximation to the binomial (Fleiss, Levin and Paik 2003, section 2.4).
    """
    if precision <= target:
        return None
    deviations = NormalDist().inv_cdf(1 - risk) * math.sqrt(target * (1 - target))
    deviations += NormalDist().inv_cdf(POWER) * math.sqrt(precision * (1 - precision))
    return max(rows_at_least(target, risk), math.ceil(float(deviations / (precision - target)) ** 2))
