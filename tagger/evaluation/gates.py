"""What a run has measured, and what is wanted -> which gates it passes, and whether enough rows say so."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal, InvalidOperation
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.stats import binomtest

from tagger.core.errors import ConfigError, UsageError
from tagger.evaluation.changes import Changed
from tagger.evaluation.metrics import Evaluation
from tagger.settings.attributes import Attribute
from tagger.settings.schema import GateSettings

RESAMPLES = 2_000
TOO_FEW = "rests on too few rows to tell"


@dataclass(frozen=True, kw_only=True)
class GateResult:
    """One gate, of one attribute or (None) of the whole result. A min_ gate passes at or above `wanted`, a max_ gate at or below.

    found: the figure, over `rows` rows; None where there was nothing to judge: then a min_ gate fails and a max_ gate passes.
    interval: its 95 % interval, None for a count that is no sample. note: what a reader should know, or None.
    """

    gate: str
    attribute: str | None
    wanted: float
    found: float | None
    rows: int
    interval: tuple[float, float] | None
    passed: bool
    note: str | None

    def to_text(self) -> str:
        """One line: wanted, found, on how many rows."""
        of = f", {self.attribute}" if self.attribute else ""
        bound = f"at least {self._show(self.wanted)}" if self.gate.startswith("min_") else f"at most {self._show(self.wanted)}"
        found = "nothing to judge" if self.found is None else f"{self._show(self.found)} on {self.rows} rows"
        line = f"gate {self.gate}{of}: expected {bound}, found {found}"
        if self.note:
            line += f"; {self.note}"
        if self.note == TOO_FEW and self.interval:
            line += f" (95 % interval {self._show(self.interval[0])} to {self._show(self.interval[1])})"
        return line

    def _show(self, value: float) -> str:
        if self.gate in ("min_labelled_rows", "max_errors"):
            return f"{value:.0f}"
        return f"{value:.4g}" if self.gate == "min_macro_f1" else f"{100 * value:.4g}%"


class _Figure(NamedTuple):
    found: float | None
    rows: int
    interval: tuple[float, float] | None = None


@dataclass(frozen=True, kw_only=True)
class Figures:
    """What gates are judged by: of a result's `rows`, those with `errors` and those to `review`; its evaluation, attribute by
    attribute; what has changed since an earlier result, or as text why that cannot be told."""

    rows: int
    errors: int
    review: int
    evaluation: Evaluation | None
    changed: Mapping[str, Changed] | str


def judge(wanted: Mapping[str, float], figures: Figures) -> list[GateResult]:
    """Judge the gates of [gates], and max_errors, a number of rows; `wanted`: gate -> its threshold.

    The point estimate decides; where the threshold lies within its interval, the note says so.
    """
    results = []
    for gate, threshold in wanted.items():
        measured, nothing = _measure(gate, figures)
        for attribute, (found, rows, interval) in measured.items():
            if found is None:
                passed, note = gate.startswith("max_"), nothing
            else:
                passed = found >= threshold if gate.startswith("min_") else found <= threshold
                note = TOO_FEW if interval and interval[0] < threshold < interval[1] else None
            result = GateResult(
                gate=gate,
                attribute=attribute,
                wanted=threshold,
                found=found,
                rows=rows,
                interval=interval,
                passed=passed,
                note=note,
            )
            results.append(result)
    return results


def _measure(gate: str, figures: Figures) -> tuple[Mapping[str | None, _Figure], str | None]:
    """The gate's figures, by attribute, and what to say where there is nothing to judge."""
    evaluated = figures.evaluation.attributes if figures.evaluation else {}
    no_truth = "no row with ground truth was tagged"
    match gate:
        case "min_accuracy":
            right = {name: int(np.trace(one.confusion_matrix)) for name, one in evaluated.items()}
            return {name: _share(right[name], one.labelled_rows) for name, one in evaluated.items()}, no_truth
        case "min_macro_f1":
            return {name: _macro_f1(one.confusion_matrix, one.macro_f1) for name, one in evaluated.items()}, no_truth
        case "min_labelled_rows":
            return {name: _Figure(one.labelled_rows, figures.rows) for name, one in evaluated.items()}, None
        case "max_changed_labels":
            if isinstance(figures.changed, str):
                return {None: _Figure(None, 0)}, figures.changed
            changed = figures.changed.items()
            return {name: _share(one.changed, one.rows) for name, one in changed}, "no row has a label in both results"
        case "max_review_rate":
            return {None: _share(figures.review, figures.rows - figures.errors)}, "no row was tagged"
    share = _share(figures.errors, figures.rows)
    if gate == "max_errors" and share.interval:
        share = _Figure(figures.errors, figures.rows, (share.interval[0] * figures.rows, share.interval[1] * figures.rows))
    return {None: share}, "there are no rows"


def _share(count: int, rows: int) -> _Figure:
    """With the interval of Wilson 1927."""
    if not rows:
        return _Figure(None, 0)
    interval = binomtest(count, rows).proportion_ci(method="wilson")
    return _Figure(count / rows, rows, (float(interval.low), float(interval.high)))


def _macro_f1(matrix: Sequence[Sequence[int]], macro_f1: float | None) -> _Figure:
    """With the percentiles of a bootstrap: as many rows, drawn from the cells of the matrix.

    Where all rows are right, or none, it draws the same again and again; but there macro F1 is the accuracy, whose interval
    then is its own.
    """
    counts = np.asarray(matrix, np.int64)
    rows, right = int(counts.sum()), int(np.trace(counts))
    if right in (0, rows):
        return _share(right, rows)
    truth, tag = np.nonzero(counts)
    shares = counts[truth, tag] / rows
    chance = np.random.default_rng(0)
    low, high = np.percentile([_f1(truth, tag, chance.multinomial(rows, shares)) for _ in range(RESAMPLES)], (2.5, 97.5))
    return _Figure(macro_f1, rows, (float(low), float(high)))


def _f1(truth: NDArray[np.int64], tag: NDArray[np.int64], counts: NDArray[np.int64]) -> float:
    """Mean F1 of the labels that occur, as truth or as tag (as evaluation/metrics.py has it)."""
    labels = int(max(truth.max(), tag.max())) + 1
    both = np.bincount(truth, counts, labels) + np.bincount(tag, counts, labels)
    right = np.bincount(truth, counts * (truth == tag), labels)
    return float(np.mean(2 * right[both > 0] / both[both > 0]))


NEED_TRUTH = ("min_accuracy", "min_macro_f1", "min_labelled_rows")


def gate_thresholds(settings: GateSettings, attributes: Sequence[Attribute], rows: int) -> dict[str, float]:
    """Gate -> threshold, of those that are set; max_errors, in rows, beats max_error_rate. UsageError for what is no number,
    ConfigError for what these attributes can never reach."""
    gates: dict[str, float] = settings.model_dump(exclude_none=True, exclude={"max_errors"})
    hopeless = [gate for gate in NEED_TRUTH if gate in gates]
    if hopeless and not any(attribute.truth_column for attribute in attributes):
        raise ConfigError(
            f"gates.{hopeless[0]}: expected an attribute with a truth_column, found none; name the column of right answers, or "
            "leave the gate out"
        )
    if settings.max_errors is not None:
        gates.pop("max_error_rate", None)
        gates["max_errors"] = error_limit(str(settings.max_errors), rows)
    return gates


def error_limit(text: str, rows: int) -> int:
    """Rows that may fail, given as a number or as a percentage of all."""
    try:
        limit = Decimal(text.removesuffix("%"))  # 0.57 % of 10,000 are 57, and not 56.99
        if not limit.is_finite() or limit < 0 or not (text.endswith("%") or text.isdecimal()):
            raise ValueError(text)
    except (ValueError, InvalidOperation) as error:
        raise UsageError(f"--max-errors: expected a number of rows or a percentage such as 2%, found {text}") from error
    return int(limit * rows / 100) if text.endswith("%") else int(limit)
