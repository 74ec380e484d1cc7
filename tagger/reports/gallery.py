"""Choose the rows that a report shows, in one pass over a result's labels and confidences; memory does not grow with its rows."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import zip_longest

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from tagger.catalog.truth import TruthReader

MISTAKES = DOUBTFUL = 24  # rows of each attribute
OF_ALL_LABELS, OF_A_LABEL = 240, 8  # random rows at most: of all attributes' labels together, and of one label
OF_A_CELL = 3  # of the confusion matrix
OF_A_CODE, CODES = 12, 40  # rows with an error of each code, and different codes
SEED = 17

Numbers = NDArray[np.int64]


@dataclass(frozen=True, kw_only=True)
class Question:
    """An attribute whose rows are shown: its labels, its truth column if it has one, and the cells of its confusion matrix
    (truth's and tag's places among the labels) of which examples are wanted."""

    labels: Sequence[str]
    truth_column: str | None = None
    cells: Sequence[tuple[int, int]] = ()


@dataclass(frozen=True, kw_only=True)
class Chosen:
    """The rows chosen for one attribute, by their numbers in the result.

    mistakes: wrong labels, most confident first. doubtful: least confident first. by_label: label -> random rows of it, the
    commonest label first. cells: random rows of the cells. counts: label -> how many rows have it; confidence: label -> their
    mean confidence. sources: who decided -> rows.
    """

    mistakes: list[int]
    doubtful: list[int]
    by_label: dict[str, list[int]]
    cells: dict[tuple[int, int], list[int]]
    counts: dict[str, int]
    confidence: dict[str, float]
    sources: dict[str, int]

    def alternating(self) -> Iterator[int]:
        """Yield the random rows: of every label the first one, then of every label the second one, and so on."""
        for rows in zip_longest(*self.by_label.values()):
            yield from (row for row in rows if row is not None)


@dataclass(frozen=True, kw_only=True)
class Gallery:
    """The rows that a report shows. attributes: by name. errors: code -> random rows; error_counts: code -> how many have it.
    changed: rows whose label is another than the night before. suspects: attribute -> rows whose truth looks wrong, the worst
    first. repeated: groups of nearly the same pictures among the first `compared` rows, the largest first: how
    many rows, and some of them.
    """

    attributes: dict[str, Chosen]
    errors: dict[str, list[int]]
    error_counts: dict[str, int] = field(default_factory=dict)
    changed: Sequence[int] = ()
    suspects: Mapping[str, Sequence[int]] = field(default_factory=dict)
    repeated: Sequence[tuple[int, Sequence[int]]] = ()
    compared: int = 0

    def pictured(self) -> list[int]:
        """Return the rows that are shown with their pictures, one for each time, the most important ones first."""
        chosen = list(self.attributes.values())
        rows = [row for one in chosen for row in one.mistakes] + [row for one in chosen for row in one.doubtful]
        rows += self.changed
        rows += [row for found in self.suspects.values() for row in found]
        rows += [row for _, group in self.repeated for row in group]
        rows += [row for one in chosen for cell in one.cells.values() for row in cell]
        return rows + [row for one in chosen for row in one.alternating()]

    def listed(self) -> list[int]:
        """Return the rows that are shown without a picture."""
        return [row for rows in self.errors.values() for row in rows]


class GalleryChooser:
    """Chooses a gallery from the rows of a result, batch by batch.

    group_starts: the first row of each row group, where images lie in the rows: random rows are then drawn from few groups, for
    whoever wants their images has to read those groups whole.
    """

    def __init__(self, questions: Mapping[str, Question], group_starts: Sequence[int] = ()) -> None:
        self._questions = questions
        self._group_starts = np.asarray(group_starts, np.int64)
        self._rows = 0
        self._codes: dict[str, int] = {}
        self._errors, self._error_counts = _Lowest(CODES, OF_A_CODE), np.zeros(CODES, np.int64)
        self._readers = {name: TruthReader(question.labels) for name, question in questions.items()}
        self._kept = {name: _Kept(question, len(questions)) for name, question in questions.items()}

    @property
    def columns(self) -> list[str]:
        """The columns of a result that `update` needs."""
        names = ["tag_status", "tag_reason"]
        for name, question in self._questions.items():
            names += [f"{name}_label", f"{name}_confidence", f"{name}_source", *filter(None, [question.truth_column])]
        return list(dict.fromkeys(names))

    def update(self, batch: pa.RecordBatch) -> None:
        """Look at the next rows of the result, which have the columns that are needed."""
        rows = np.arange(self._rows, self._rows + len(batch))
        self._rows += len(batch)
        random = self._draw(rows)
        for name, question in self._questions.items():
            labels = codes_of(batch.column(f"{name}_label"), question.labels)
            confidence = batch.column(f"{name}_confidence").to_numpy(zero_copy_only=False).astype(np.float64)
            truth = None
            if question.truth_column is not None:
                found = self._readers[name].read_column(batch, question.truth_column)
                truth = np.asarray(found.fill_null(-1), np.int64)
            tagged = (labels >= 0) & ~np.isnan(confidence)
            self._kept[name].update(rows[tagged], labels[tagged], confidence[tagged], random[tagged], truth, tagged)
            self._kept[name].sources.update(_value_counts(batch.column(f"{name}_source")))
        self._update_errors(batch, rows, random)

    def _update_errors(self, batch: pa.RecordBatch, rows: Numbers, random: NDArray[np.float64]) -> None:
        failed = np.flatnonzero(pc.equal(batch.column("tag_status"), "error").fill_null(False).to_numpy(zero_copy_only=False))
        reasons = batch.column("tag_reason").take(pa.array(failed)).to_pylist()
        codes = [(reason or "").partition(":")[0] for reason in reasons]
        for code in codes:
            if code not in self._codes and len(self._codes) < CODES:
                self._codes[code] = len(self._codes)
        known = np.array([self._codes.get(code, -1) for code in codes], np.int64)
        failed, known = failed[known >= 0], known[known >= 0]
        self._error_counts += np.bincount(known, minlength=CODES)
        self._errors.update(known, random[failed], rows[failed])

    def _draw(self, rows: Numbers) -> NDArray[np.float64]:
        """Return a number from 0 to 1 for each row, that depends on nothing but the row."""
        drawn = _hash(rows)
        if len(self._group_starts):
            groups = np.searchsorted(self._group_starts, rows, side="right")
            drawn = (np.floor(_hash(groups) * 2**24) + drawn) / 2**24
        return drawn

    def result(self) -> Gallery:
        """Return what was chosen from all rows so far."""
        counts = {code: int(self._error_counts[place]) for code, place in self._codes.items()}
        ordered = sorted(counts, key=lambda code: (-counts[code], code))
        return Gallery(
            attributes={name: kept.result() for name, kept in self._kept.items()},
            errors={code: sorted(self._errors.rows(self._codes[code])) for code in ordered},
            error_counts={code: counts[code] for code in ordered},
        )


class _Kept:
    """What was chosen for one attribute so far."""

    def __init__(self, question: Question, attributes: int) -> None:
        self._labels = question.labels
        self._shown = max(OF_ALL_LABELS // attributes, 1)  # rows of all labels
        self._cells = sorted(question.cells)
        self._flat = np.array([truth * len(self._labels) + tag for truth, tag in self._cells], np.int64)
        self._counts, self._confidence = np.zeros(len(self._labels), np.int64), np.zeros(len(self._labels))
        self.sources = Counter[str]()
        self._mistakes, self._doubtful = _Lowest(1, MISTAKES), _Lowest(1, DOUBTFUL)
        self._of_label = _Lowest(len(self._labels), min(max(self._shown // len(self._labels), 1), OF_A_LABEL))
        self._of_cell = _Lowest(len(self._cells), OF_A_CELL)

    def update(
        self,
        rows: Numbers,
        labels: Numbers,
        confidence: NDArray[np.float64],
        random: NDArray[np.float64],
        truth: Numbers | None,
        tagged: NDArray[np.bool_],
    ) -> None:
        """All arrays but the last two are of the tagged rows alone."""
        self._counts += np.bincount(labels, minlength=len(self._labels))
        self._confidence += np.bincount(labels, confidence, minlength=len(self._labels))
        self._doubtful.update(np.zeros_like(labels), confidence, rows)
        self._of_label.update(labels, random, rows)
        if truth is None:
            return
        truth = truth[tagged]
        wrong = (truth >= 0) & (truth != labels)
        self._mistakes.update(np.zeros_like(labels[wrong]), -confidence[wrong], rows[wrong])
        if len(self._flat):
            flat = truth * len(self._labels) + labels
            place = np.minimum(np.searchsorted(self._flat, flat), len(self._flat) - 1)
            inside = (self._flat[place] == flat) & (truth >= 0)
            self._of_cell.update(place[inside], random[inside], rows[inside])

    def result(self) -> Chosen:
        order = np.argsort(-self._counts, kind="stable")
        order = order[self._counts[order] > 0]
        shown = order[: self._shown]
        return Chosen(
            mistakes=self._mistakes.rows(0),
            doubtful=self._doubtful.rows(0),
            by_label={self._labels[place]: self._of_label.rows(place) for place in shown.tolist()},
            cells={cell: self._of_cell.rows(place) for place, cell in enumerate(self._cells)},
            counts={self._labels[place]: int(self._counts[place]) for place in order.tolist()},
            confidence={self._labels[place]: float(self._confidence[place] / self._counts[place]) for place in order.tolist()},
            sources=dict(self.sources.most_common()),
        )


class _Lowest:
    """Keeps the rows of the `size` lowest keys in each of several groups, of equal keys those of the lowest rows."""

    def __init__(self, groups: int, size: int) -> None:
        self._size = size
        self._keys = np.full((groups, size), np.inf)
        self._rows = np.full((groups, size), -1, np.int64)

    def update(self, groups: Numbers, keys: NDArray[np.float64], rows: Numbers) -> None:
        """groups: int64 (N,). keys: float64 (N,), finite. rows: int64 (N,), ascending from call to call."""
        better = keys < self._keys[groups, -1]
        if not better.any():
            return
        touched = np.unique(groups[better])
        groups = np.concatenate([np.repeat(touched, self._size), groups[better]])
        keys = np.concatenate([self._keys[touched].ravel(), keys[better]])
        rows = np.concatenate([self._rows[touched].ravel(), rows[better]])
        order = np.lexsort((rows, keys, groups))
        groups, keys, rows = groups[order], keys[order], rows[order]
        rank = np.arange(len(groups)) - np.searchsorted(groups, groups)
        kept = rank < self._size
        self._keys[groups[kept], rank[kept]] = keys[kept]
        self._rows[groups[kept], rank[kept]] = rows[kept]

    def rows(self, group: int) -> list[int]:
        return [row for row in self._rows[group].tolist() if row >= 0]


def codes_of(column: pa.Array, labels: Sequence[str]) -> Numbers:
    """Return each value's place among the labels, int64 (N,), -1 where it is none of them."""
    found = pc.index_in(pc.cast(column, pa.string()), pa.array(labels, pa.string()))
    return np.asarray(found.fill_null(-1), np.int64)


def _value_counts(column: pa.Array) -> dict[str, int]:
    return {item["values"]: item["counts"] for item in column.value_counts().to_pylist() if item["values"] is not None}


def _hash(numbers: Numbers) -> NDArray[np.float64]:
    """Scatter numbers over 0 to 1 (splitmix64, Steele et al. 2014)."""
    with np.errstate(over="ignore"):
        mixed = (numbers.astype(np.uint64) + np.uint64(SEED)) * np.uint64(0x9E3779B97F4A7C15)
        mixed = (mixed ^ (mixed >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        mixed = (mixed ^ (mixed >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        mixed ^= mixed >> np.uint64(31)
    return (mixed >> np.uint64(11)).astype(np.float64) / 2**53
