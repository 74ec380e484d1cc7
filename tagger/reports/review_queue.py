"""Choose the rows of a result whose correction teaches most, in one pass and with memory for a few times the budget.

First come rows that something speaks against: a truth that is suspected to be wrong, a review that the run asked for, a label
that a gate found wanting. Then those with the smallest margin between the two best labels (Settles 2009, uncertainty sampling).
Turns are taken: one of each label and of each kind of reason, the smallest margin first, before any comes again, so that one
difficult label does not take the whole budget. Of rows that share a picture one is asked about.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from tagger.catalog.truth import to_text
from tagger.evaluation.gates import GateResult

SUSPECT, ASKED, DOUBTED, UNCERTAIN = range(4)  # why a row is in the queue
SPARE = 2  # times the budget: some pictures turn out to be the same, or cannot be read
MAX_DOUBTED = 5  # labels, the worst ones


class Queued(NamedTuple):
    """A row of the result, why it is asked about (one of the kinds above), and its margin."""

    row: int
    kind: int
    margin: float


@dataclass(frozen=True, kw_only=True)
class Asking:
    """What is asked, and of which rows.

    truth_column, note_column: rows with a value there were answered; None where there is no such column. image_column: texts
    or structs with a path, by which a picture that occurs again is known. only: whether the attribute is the result's only
    one. doubted: labels whose rows are asked about. suspects: rows that are, even if they have truth. groups: int64 (N,), of all
    rows, the same for rows with nearly the same picture, negative for those that are in no group.
    """

    attribute: str
    labels: Sequence[str]
    only: bool
    truth_column: str | None
    note_column: str | None
    image_column: str | None
    doubted: Collection[str] = ()
    suspects: Collection[int] = ()
    groups: NDArray[np.int64] | None = None


class QueueBuilder:
    """Takes a result batch by batch, from its first row on, and keeps the rows that would be asked about first."""

    def __init__(self, asking: Asking, budget: int) -> None:
        self._asking, self._keep = asking, SPARE * budget
        self._suspects = np.array(sorted(asking.suspects), np.int64)
        self._rows = 0
        self._pool = _Pool.empty()

    def update(self, batch: pa.RecordBatch) -> None:
        """Add the next rows: the attribute's label and top, `tag_status`, `tag_reason`, and the columns that `asking` names."""
        rows = np.arange(self._rows, self._rows + len(batch))
        self._rows += len(batch)
        labels, top = pa.array(self._asking.labels, pa.string()), batch.column(f"{self._asking.attribute}_top")
        label = _numbers(pc.index_in(batch.column(f"{self._asking.attribute}_label"), labels))
        unknown = (label < 0) & _mask(pc.fill_null(pc.greater(pc.list_value_length(top), 0), False))
        best = pc.struct_field(pc.list_element(top.filter(pa.array(unknown)), 0), "label")
        label[unknown] = _numbers(pc.index_in(best, labels))  # the nearest, for those that were found to be none
        margin = margins(top)
        kind = self._kinds(batch, rows, label)
        wanted = np.flatnonzero((label >= 0) & (kind >= 0))
        candidates = _Pool(
            row=rows[wanted],
            label=label[wanted],
            kind=kind[wanted],
            margin=margin[wanted],
            group=self._groups(batch, rows)[wanted],
        )
        self._pool = _first(self._pool.joined(candidates), self._keep)

    def result(self) -> list[Queued]:
        """Return the rows in the order in which they are asked about, SPARE times the budget at most."""
        columns = (self._pool.row, self._pool.kind, self._pool.margin)
        return [Queued(*values) for values in zip(*(column.tolist() for column in columns), strict=True)]

    def _kinds(self, batch: pa.RecordBatch, rows: NDArray[np.int64], label: NDArray[np.int64]) -> NDArray[np.int64]:
        """Return why each row would be asked about, int64 (N,); -1 where it is answered."""
        asking = self._asking
        doubted = [number for number, name in enumerate(asking.labels) if name in asking.doubted]
        kind = np.where(np.isin(label, doubted), DOUBTED, UNCERTAIN)
        kind[self._asked(batch)] = ASKED
        for column in filter(None, (asking.truth_column, asking.note_column)):
            answer = to_text(batch.column(column), batch.schema, column)
            kind[_mask(pc.fill_null(pc.not_equal(answer, ""), False))] = -1
        kind[np.isin(rows, self._suspects)] = SUSPECT
        return kind

    def _asked(self, batch: pa.RecordBatch) -> NDArray[np.bool_]:
        """Return which rows the run sent to review, bool (N,), on account of this attribute or of the picture."""
        asked = pc.equal(batch.column("tag_status"), "review")
        if not self._asking.only:  # the reasons of several attributes stand in one text
            pattern = rf"(^|; )(quality: |[a-z-]+: {self._asking.attribute} )"
            asked = pc.and_(asked, pc.match_substring_regex(batch.column("tag_reason"), pattern))
        return _mask(pc.fill_null(asked, False))

    def _groups(self, batch: pa.RecordBatch, rows: NDArray[np.int64]) -> NDArray[np.uint64]:
        """Return a number for each row, uint64 (N,), that rows with the same picture share."""
        import pandas as pd  # half a second to import

        alone = rows.astype(np.uint64)  # hashes have their highest bit set, groups the one below it
        groups = alone
        if (column := self._asking.image_column) is not None:
            references = batch.column(column)
            if pa.types.is_struct(references.type):
                references = pc.struct_field(references, "path")
            references = pc.cast(references, pa.string())
            hashes = pd.util.hash_array(references.to_numpy(zero_copy_only=False)) | np.uint64(1 << 63)
            groups = np.where(_mask(pc.is_valid(references)), hashes, alone)
        if self._asking.groups is not None:
            given = self._asking.groups[rows]
            groups = np.where(given >= 0, given.astype(np.uint64) | np.uint64(1 << 62), groups)
        return groups


def margins(top: pa.Array) -> NDArray[np.float32]:
    """Return the best label's confidence less the second's, float32 (N,), for a column of the type schemas.TOP_TYPE."""
    confidence = pc.struct_field(top.values, "confidence").fill_null(0).to_numpy(zero_copy_only=False)
    padded = np.append(confidence, np.zeros(2, np.float32))
    starts = top.offsets.to_numpy()[:-1]
    count = top.offsets.to_numpy()[1:] - starts
    best, second = np.where(count > 0, padded[starts], 0), np.where(count > 1, padded[starts + 1], 0)
    return (best - second).astype(np.float32)


def doubted_labels(name: str, gates: Sequence[GateResult], per_class: Mapping[str, Mapping[str, float]]) -> dict[str, float]:
    """Return the labels, with their F1, that keep an attribute from passing its gates on accuracy and F1: the worst ones."""
    wanted = [
        one.wanted for one in gates if not one.passed and one.attribute == name and one.gate in ("min_accuracy", "min_macro_f1")
    ]
    below = {label: row["f1"] for label, row in per_class.items() if row["f1"] < max(wanted, default=0.0)}
    return dict(sorted(below.items(), key=lambda item: item[1])[:MAX_DOUBTED])


@dataclass(frozen=True, kw_only=True)
class _Pool:
    """Candidates, a row's values at the same place of each array."""

    row: NDArray[np.int64]
    label: NDArray[np.int64]
    kind: NDArray[np.int64]
    margin: NDArray[np.float32]
    group: NDArray[np.uint64]

    @classmethod
    def empty(cls) -> _Pool:
        none = np.empty(0, np.int64)
        return cls(row=none, label=none, kind=none, margin=np.empty(0, np.float32), group=np.empty(0, np.uint64))

    def joined(self, other: _Pool) -> _Pool:
        return _Pool(**{name: np.concatenate([mine, getattr(other, name)]) for name, mine in vars(self).items()})

    def take(self, places: NDArray[np.int64]) -> _Pool:
        return _Pool(**{name: values[places] for name, values in vars(self).items()})


def _first(pool: _Pool, count: int) -> _Pool:
    """Return the candidates that are asked about first, in order, one of each group."""
    # A truth that the model denies is the more suspect, the surer the model is.
    rank = np.where(pool.kind == SUSPECT, -pool.margin, pool.margin)
    pool = pool.take(np.lexsort((pool.row, rank, pool.kind)))
    _, distinct = np.unique(pool.group, return_index=True)  # the first of each group
    pool = pool.take(np.sort(distinct))
    turn = np.empty(len(pool.row), np.int64)  # how many of the same label and kind come before
    cell = pool.label * (UNCERTAIN + 1) + pool.kind
    order = np.argsort(cell, kind="stable")
    _, starts, sizes = np.unique(cell[order], return_index=True, return_counts=True)
    turn[order] = np.arange(len(order)) - np.repeat(starts, sizes)
    places = np.lexsort((pool.row, pool.margin, pool.kind, turn, pool.kind == UNCERTAIN))
    return pool.take(places[:count])


def _numbers(column: pa.Array) -> NDArray[np.int64]:
    return np.array(pc.fill_null(column, -1).to_numpy(zero_copy_only=False), np.int64)


def _mask(column: pa.Array) -> NDArray[np.bool_]:
    return np.asarray(column.to_numpy(zero_copy_only=False), bool)
