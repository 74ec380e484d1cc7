"""Evaluate a result by the values of manifest columns, such as brand or season: where the tags are bad, and how sure that is."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from tagger.catalog.schemas import is_bytes
from tagger.catalog.truth import TruthReader
from tagger.core.errors import UsageError
from tagger.evaluation.intervals import Interval, share_interval

MAX_VALUES = 5_000  # different values of a column that are told apart
FEW = 30  # labelled rows, or where there is no truth rows, below which a figure says little
ROWS, ERRORS, REVIEW, COUNTS = 0, 1, 2, 3  # the columns of a value's counts; then labelled and correct rows of each attribute


@dataclass(frozen=True, kw_only=True)
class Slice:
    """The rows with one value: how many, with an error, to review, with a truth value among the labels and tagged.

    value: None for rows without one. accuracy: of the labelled rows, with its 95 % interval; None without any. small: too few to
    tell.
    """

    value: str | None
    rows: int
    errors: int
    review: int
    labelled_rows: int
    accuracy: float | None
    accuracy_interval: Interval | None
    small: bool


@dataclass(frozen=True, kw_only=True)
class SliceTable:
    """The slices of one column, judged by one attribute; by errors and review alone where this is None.

    slices: worst first, those that are too small to tell after the others. others: the rows with values beyond the first
    MAX_VALUES, None where there are none.
    """

    column: str
    attribute: str | None
    slices: tuple[Slice, ...]
    others: Slice | None


class Slicer:
    """Counts a result's rows by the values of `columns`, batch by batch, for up to MAX_VALUES of each.

    attributes: as in metrics.Evaluator; may be empty. Raises UsageError for a column that the result lacks, or that holds no
    texts, numbers or dates.
    """

    def __init__(self, schema: pa.Schema, columns: Sequence[str], attributes: Mapping[str, tuple[str, Sequence[str]]]) -> None:
        for column in columns:
            if column not in schema.names:
                raise UsageError(f"--slice: expected a column of the result, found {column}; it has {', '.join(schema.names)}")
            if not _has_values(kind := schema.field(column).type):
                raise UsageError(f"--slice: expected a column of texts, numbers or dates, found {column} of {kind}; leave it out")
        self._attributes = attributes
        self._readers = {name: TruthReader(labels) for name, (_, labels) in attributes.items()}
        self._counts: dict[str, dict[str | None, NDArray[np.int64]]] = {column: {} for column in dict.fromkeys(columns)}
        self._others = {column: self._zeros() for column in self._counts}

    def update(self, table: pa.Table) -> None:
        """Add rows of a result: the columns, tag_status, and truth and `<attribute>_label` columns."""
        status = table["tag_status"]
        summed = [pc.equal(status, "error"), pc.equal(status, "review")]
        for name, (truth_column, labels) in self._attributes.items():
            truth = pa.array(labels, pa.string()).take(self._readers[name].read_column(table, truth_column))
            labelled = pc.and_(pc.is_valid(truth), pc.is_valid(table[f"{name}_label"]))
            summed += [labelled, pc.and_(labelled, pc.fill_null(pc.equal(truth, table[f"{name}_label"]), False))]
        numbers = [str(number) for number in range(len(summed))]
        for column, counts in self._counts.items():
            values = pc.cast(table[column], pa.string())
            rows = pa.table([values, *(pc.cast(one, pa.int64()) for one in summed)], names=["value", *numbers])
            grouped = rows.group_by("value").aggregate([([], "count_all"), *((number, "sum") for number in numbers)])
            added = np.column_stack([grouped[name].to_numpy() for name in ["count_all", *(f"{one}_sum" for one in numbers)]])
            for value, one in zip(grouped["value"].to_pylist(), added, strict=True):
                if value in counts:
                    counts[value] += one
                elif len(counts) < MAX_VALUES:
                    counts[value] = one.copy()
                else:
                    self._others[column] += one

    def result(self) -> list[SliceTable]:
        """Return a table for each column and attribute; for each column alone where there are no attributes."""
        places: dict[str | None, int | None] = {name: COUNTS + 2 * number for number, name in enumerate(self._attributes)}
        return [
            SliceTable(
                column=column,
                attribute=name,
                slices=tuple(sorted((_slice(value, one, place) for value, one in counts.items()), key=_rank)),
                others=_slice(None, others, place) if (others := self._others[column])[ROWS] else None,
            )
            for column, counts in self._counts.items()
            for name, place in (places or {None: None}).items()
        ]

    def _zeros(self) -> NDArray[np.int64]:
        return np.zeros(COUNTS + 2 * len(self._attributes), np.int64)


def _has_values(kind: pa.DataType) -> bool:
    """Tell whether values of this type can be shown as text."""
    try:
        pa.nulls(0, kind).cast(pa.string())
    except pa.ArrowException:
        return False
    return not is_bytes(kind)


def _slice(value: str | None, counts: NDArray[np.int64], place: int | None) -> Slice:
    """Return the slice with these counts; `place`: where those of the attribute begin, None without one."""
    rows, errors, review = counts[:COUNTS].tolist()
    labelled, correct = (0, 0) if place is None else counts[place : place + 2].tolist()
    return Slice(
        value=value,
        rows=rows,
        errors=errors,
        review=review,
        labelled_rows=labelled,
        accuracy=correct / labelled if labelled else None,
        accuracy_interval=share_interval(correct, labelled),
        small=(rows if place is None else labelled) < FEW,
    )


def _rank(one: Slice) -> tuple[bool, float, float, str]:
    """Return what slices are sorted by: small ones last, else the least accurate, then the most errors and review."""
    return one.small, 1.0 if one.accuracy is None else one.accuracy, -(one.errors + one.review) / one.rows, one.value or ""
