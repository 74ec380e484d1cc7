"""Measure how well a confidence tells how often a label is correct."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from tagger.catalog.truth import TruthReader
from tagger.evaluation.guarantee import Judged

BINS = 15
POINTS = 20  # that a risk-coverage curve has


@dataclass(frozen=True, kw_only=True)
class Bin:
    """The rows whose confidence is from `low` to `high`: how many, their mean confidence, and the share that is right."""

    low: float
    high: float
    rows: int
    confidence: float
    accuracy: float


@dataclass(frozen=True, kw_only=True)
class Point:
    """What it means to accept some rows: the share that is accepted, the share of those that is wrong, their lowest confidence.

    risk and confidence are None where no row is accepted.
    """

    coverage: float
    risk: float | None
    confidence: float | None


@dataclass(frozen=True, kw_only=True)
class AttributeConfidence:
    """How well an attribute's confidences tell which labels are right, over the labelled rows that were tagged.

    ece: the expected calibration error, None without rows. bins: those of `reliability`. risk_coverage: the curve. accepted: the
    point of today's thresholds, that is of the rows that did not go to review for their low confidence; None without rows.
    """

    labelled_rows: int
    ece: float | None
    bins: tuple[Bin, ...]
    risk_coverage: tuple[Point, ...]
    accepted: Point | None


class Confidences:
    """Collects a result's confidences, batch by batch, at 6 bytes a labelled row; `attributes` is as in metrics.Evaluator."""

    def __init__(self, attributes: Mapping[str, tuple[str, Sequence[str]]]) -> None:
        self._attributes = attributes
        self._readers = {name: TruthReader(labels) for name, (_, labels) in attributes.items()}
        self._rows: dict[str, list[tuple[Judged, NDArray[np.bool_]]]] = {name: [] for name in attributes}

    def update(self, table: pa.Table) -> None:
        """Add rows of a result: truth, `<attribute>_label`, `<attribute>_confidence`, tag_status and tag_reason."""
        reviewed = pc.equal(table["tag_status"], "review")
        for name, (truth_column, names) in self._attributes.items():
            label = table[f"{name}_label"]
            truth = pa.array(names, pa.string()).take(self._readers[name].read_column(table, truth_column))
            used = pc.and_(pc.is_valid(truth), pc.is_valid(label))
            low = pc.match_substring(pc.fill_null(table["tag_reason"], ""), f"low-confidence: {name} ")
            accepted = pc.invert(pc.and_(reviewed, low)).filter(used).to_numpy()
            confidence = table[f"{name}_confidence"].filter(used).to_numpy()
            self._rows[name].append((Judged(confidence, pc.equal(truth, label).filter(used).to_numpy()), accepted))

    def result(self) -> dict[str, AttributeConfidence]:
        return {name: _measure(parts) for name, parts in self._rows.items()}


def _measure(parts: Sequence[tuple[Judged, NDArray[np.bool_]]]) -> AttributeConfidence:
    rows = sum(len(accepted) for _, accepted in parts)
    if not rows:
        return AttributeConfidence(labelled_rows=0, ece=None, bins=(), risk_coverage=(), accepted=None)
    confidence, correct = (np.concatenate(columns) for columns in zip(*(judged for judged, _ in parts), strict=True))
    judged, accepted = Judged(confidence, correct), np.concatenate([accepted for _, accepted in parts])
    taken, count = judged.take(np.flatnonzero(accepted)), int(accepted.sum())
    bins = reliability(judged)
    return AttributeConfidence(
        labelled_rows=rows,
        ece=calibration_error(bins),
        bins=tuple(bins),
        risk_coverage=tuple(risk_coverage(judged)),
        accepted=Point(
            coverage=count / rows,
            risk=float(1 - taken.correct.mean()) if count else None,
            confidence=float(taken.confidence.min()) if count else None,
        ),
    )


def reliability(judged: Judged) -> list[Bin]:
    """Return those of BINS bins of equal width that have rows: the reliability diagram, of each row's best label."""
    number = np.minimum((judged.confidence * BINS).astype(np.int64), BINS - 1)
    rows = np.bincount(number, minlength=BINS)
    confidence, correct = (np.bincount(number, one, BINS) for one in judged)
    return [
        Bin(
            low=one / BINS,
            high=(one + 1) / BINS,
            rows=int(rows[one]),
            confidence=float(confidence[one] / rows[one]),
            accuracy=float(correct[one] / rows[one]),
        )
        for one in np.flatnonzero(rows).tolist()
    ]


def calibration_error(bins: Sequence[Bin]) -> float:
    """Return the expected calibration error (Guo et al. 2017, equation 5)."""
    return sum(abs(one.accuracy - one.confidence) * one.rows for one in bins) / sum(one.rows for one in bins)


def risk_coverage(judged: Judged) -> list[Point]:
    """Return up to POINTS points of the risk-coverage curve, equally far apart, the most confident rows first."""
    rows = len(judged.confidence)
    order = np.argsort(-judged.confidence, kind="stable")
    wrong = np.cumsum(~judged.correct[order])
    counts = np.unique(np.ceil(np.linspace(0, rows, POINTS + 1)[1:]).astype(np.int64))
    return [
        Point(
            coverage=count / rows,
            risk=float(wrong[count - 1] / count),
            confidence=float(judged.confidence[order[count - 1]]),
        )
        for count in counts.tolist()
    ]


def confidence_metrics(probabilities: NDArray[np.float32], truth: NDArray[np.int64]) -> dict[str, float]:
    """Return accuracy, expected calibration error, log loss and Brier score.

    probabilities: float32 (N, K). truth: int64 (N,). The Brier score is over all labels (Brier 1950: 0 to 2).
    """
    from sklearn.metrics import log_loss  # it takes a second to import, and no usual night asks

    exact = probabilities.astype(np.float64)
    exact /= exact.sum(1, keepdims=True)
    correct, target = exact.argmax(1) == truth, np.eye(exact.shape[1])[truth]
    return {
        "accuracy": float(correct.mean()),
        "ece": calibration_error(reliability(Judged(exact.max(1), correct))),
        "log_loss": float(log_loss(truth, exact, labels=np.arange(exact.shape[1]))),
        "brier": float(((exact - target) ** 2).sum(1).mean()),
    }
