"""Judge a run's figures by the thresholds of [gates]: which ones it passes, and whether enough rows say so."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal, InvalidOperation
from typing import NamedTuple

from tagger.core.errors import ConfigError, UsageError
from tagger.evaluation.changes import Changed, Unreadable
from tagger.evaluation.drift import Drift
from tagger.evaluation.intervals import Interval, share_interval
from tagger.evaluation.metrics import AttributeEvaluation, Evaluation
from tagger.settings.attributes import Attribute
from tagger.settings.schema import GateSettings

TOO_FEW = "rests on too few rows to tell"
NO_TRUTH, NO_ROWS = "no row with ground truth was tagged", "there are no rows"
MOST_REJECTED = 0.5  # of the rows whose truth is a label: where `unknown` takes more, the others say nothing of the night
OF_LABELLED_ROWS = ("min_accuracy", "min_macro_f1")  # gates whose figures leave out truth values that fit no label
NEED_TRUTH = (*OF_LABELLED_ROWS, "min_labelled_rows")


@dataclass(frozen=True, kw_only=True)
class GateResult:
    """The outcome of one gate, for one attribute or (None) the whole result.

    A min_ gate passes at or above the threshold `wanted`, a max_ gate at or below. found: the figure, over `rows` rows; None
    where there was nothing to judge: then a min_ gate fails and a max_ gate passes, unless an earlier result cannot be read.
    interval: the figure's 95 % interval, None for a count that is no sample. note: what a reader should know, or None.
    """

    gate: str
    attribute: str | None
    wanted: float
    found: float | None
    rows: int
    interval: Interval | None
    passed: bool
    note: str | None

    def to_text(self) -> str:
        """Return one line: the threshold, the figure, and on how many rows it rests."""
        show = GATES[self.gate].show
        of = f", {self.attribute}" if self.attribute else ""
        bound = f"at least {show(self.wanted)}" if self.gate.startswith("min_") else f"at most {show(self.wanted)}"
        found = "nothing to judge" if self.found is None else f"{show(self.found)} on {self.rows} rows"
        line = f"gate {self.gate}{of}: expected {bound}, found {found}"
        if self.note:
            line += f"; {self.note}"
        if self.note and self.note.endswith(TOO_FEW) and self.interval:
            line += f" (95 % interval {show(self.interval[0])} to {show(self.interval[1])})"
        return line


@dataclass(frozen=True, kw_only=True)
class Figures:
    """What a run has measured, for its gates to be judged by.

    rows: all rows of the result; `errors` of them have an error, `review` go to review. evaluation: None where no attribute has
    a truth column. changed: by attribute, the labels that differ from an earlier result's, or a text that says why that is not
    known; Unreadable where it should be. drift: how far the result has shifted from that one.
    """

    rows: int
    errors: int
    review: int
    evaluation: Evaluation | None
    changed: Mapping[str, Changed] | str
    drift: Drift

    @property
    def evaluated(self) -> Mapping[str, AttributeEvaluation]:
        return self.evaluation.attributes if self.evaluation else {}


class _Figure(NamedTuple):
    """A figure over `rows` rows with its 95 % interval; where there is nothing to judge None, and `missing` says why.

    significant: whether it is more than chance; if not, a max_ gate passes.
    """

    found: float | None
    rows: int
    interval: Interval | None = None
    missing: str | None = None
    fails: bool = False  # where there is nothing to judge, though there should be
    significant: bool = True  # else the figure may be chance, and a max_ gate passes


def judge(thresholds: Mapping[str, float], figures: Figures, min_truth_in_labels: float) -> list[GateResult]:
    """Judge each gate by its own figures; thresholds: gate, one of GATES, -> threshold.

    The point estimate decides; where the threshold lies within its interval, the note says so; a shift that may be chance
    passes. min_truth_in_labels: the share of the truth values that must fit a label, or a gate on accuracy or macro F1 fails
    whatever its figure; so it does where more than MOST_REJECTED of the images of those that fit one were taken for unknown.
    """
    results = []
    for gate, threshold in thresholds.items():
        for attribute, (found, rows, interval, missing, fails, significant) in GATES[gate].measure(figures).items():
            notes = [missing] if found is None and missing else []
            if found is None:
                passed = gate.startswith("max_") and not fails
            else:
                passed = found >= threshold if gate.startswith("min_") else found <= threshold or not significant
            one = figures.evaluated.get(attribute or "")
            if gate in OF_LABELLED_ROWS and one:
                doubts = _doubts(one, min_truth_in_labels)
                passed &= not any(fails for _, fails in doubts)
                notes += [note for note, _ in doubts]
            near = interval is not None and interval[0] < threshold < interval[1]
            if found is not None and (near or (found > threshold and not significant)):
                notes.append(TOO_FEW)
            result = GateResult(
                gate=gate,
                attribute=attribute,
                wanted=threshold,
                found=found,
                rows=rows,
                interval=interval,
                passed=passed,
                note="; ".join(notes) or None,
            )
            results.append(result)
    return results


def _doubts(one: AttributeEvaluation, min_truth_in_labels: float) -> list[tuple[str, bool]]:
    """Return which rows with a truth value an attribute's figures leave out, and whether they are so many that a gate fails."""
    doubts = []
    if one.unknown_rows:
        note = f"{one.unknown_rows} of {one.truth_rows} truth values fit no label and are left out"
        few = (one.truth_rows - one.unknown_rows) / one.truth_rows < min_truth_in_labels
        wanted = f"; expected at least {_as_percentage(min_truth_in_labels)} to fit one (min_truth_in_labels)" if few else ""
        doubts.append((note + wanted, few))
    if one.rejected_rows:
        judged = one.labelled_rows + one.rejected_rows
        note = f"{one.rejected_rows} of {judged} rows whose truth is a label were taken for unknown and are left out"
        many = one.rejected_rows / judged > MOST_REJECTED
        doubts.append((f"{note}; expected at most {_as_percentage(MOST_REJECTED)}" if many else note, many))
    return doubts


# What a gate is judged by: attribute -> figure; the attribute None is the whole result.
_Measures = Mapping[str | None, _Figure]


def _accuracy(figures: Figures) -> _Measures:
    return {
        name: _Figure(one.accuracy, one.labelled_rows, one.accuracy_interval, NO_TRUTH) for name, one in figures.evaluated.items()
    }


def _macro_f1(figures: Figures) -> _Measures:
    return {
        name: _Figure(one.macro_f1, one.labelled_rows, one.macro_f1_interval, NO_TRUTH) for name, one in figures.evaluated.items()
    }


def _labelled_rows(figures: Figures) -> _Measures:
    return {name: _Figure(one.labelled_rows, figures.rows) for name, one in figures.evaluated.items()}


def _error_rate(figures: Figures) -> _Measures:
    return {None: _share(figures.errors, figures.rows, NO_ROWS)}


def _errors(figures: Figures) -> _Measures:
    rows, share = figures.rows, _share(figures.errors, figures.rows, NO_ROWS)
    if share.interval is None:
        return {None: share}
    return {None: _Figure(figures.errors, rows, (share.interval[0] * rows, share.interval[1] * rows))}


def _review_rate(figures: Figures) -> _Measures:
    return {None: _share(figures.review, figures.rows - figures.errors, "no row was tagged")}


def _changed_labels(figures: Figures) -> _Measures:
    if isinstance(figures.changed, str):
        return {None: _Figure(None, 0, missing=figures.changed, fails=isinstance(figures.changed, Unreadable))}
    missing = "no row has a label in both results"
    return {name: _share(one.changed, one.rows, missing) for name, one in figures.changed.items()}


def _psi(figures: Figures) -> _Measures:
    drift = figures.drift
    if drift.missing is not None:
        return {None: _Figure(None, 0, missing=drift.missing, fails=isinstance(drift.missing, Unreadable))}
    shifts = (shift for shift in drift.shifts if shift.figure == "labels")
    return {
        one.attribute: _Figure(one.size, figures.rows - figures.errors, missing=one.note, significant=one.significant)
        for one in shifts
    }


def _as_percentage(value: float) -> str:
    return f"{100 * value:.4g}%"


class _Gate(NamedTuple):
    """How a gate is measured, and how its figures are shown."""

    measure: Callable[[Figures], _Measures]
    show: Callable[[float], str]


# The gates of [gates], and max_errors, which is a number of rows and takes the place of max_error_rate.
GATES = {
    "min_accuracy": _Gate(_accuracy, _as_percentage),
    "min_macro_f1": _Gate(_macro_f1, "{:.4g}".format),
    "min_labelled_rows": _Gate(_labelled_rows, "{:.0f}".format),
    "max_error_rate": _Gate(_error_rate, _as_percentage),
    "max_errors": _Gate(_errors, "{:.0f}".format),
    "max_review_rate": _Gate(_review_rate, _as_percentage),
    "max_changed_labels": _Gate(_changed_labels, _as_percentage),
    "max_psi": _Gate(_psi, "{:.4g}".format),
}


def _share(count: int, rows: int, missing: str) -> _Figure:
    """Return the share of the rows with its interval."""
    return _Figure(count / rows if rows else None, rows, share_interval(count, rows), missing)


def gate_thresholds(settings: GateSettings, attributes: Sequence[Attribute], rows: int) -> dict[str, float]:
    """Return gate -> threshold for the gates that are set.

    max_errors becomes a number of rows and takes the place of max_error_rate. Raises UsageError for a max_errors that is
    neither a number nor a percentage, ConfigError for a gate that these attributes can never reach.
    """
    gates: dict[str, float] = settings.model_dump(exclude_none=True, exclude={"max_errors", "min_truth_in_labels"})
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
    """Return how many rows may fail, of a text with a number or a percentage of `rows`. Raises UsageError."""
    try:
        limit = Decimal(text.removesuffix("%"))  # 0.57 % of 10,000 are 57, and not 56.99
        if not limit.is_finite() or limit < 0 or not (text.endswith("%") or text.isdecimal()):
            raise ValueError(text)
    except (ValueError, InvalidOperation) as error:
        raise UsageError(f"--max-errors: expected a number of rows or a percentage such as 2%, found {text}") from error
    return int(limit * rows / 100) if text.endswith("%") else int(limit)
