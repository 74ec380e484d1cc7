"""Count how many prediction sets of a result hold the right label, and how many labels they have."""

from __future__ import annotations

from dataclasses import dataclass

import pyarrow as pa
import pyarrow.compute as pc


@dataclass(frozen=True, kw_only=True)
class SetEvaluation:
    """The share of labelled rows whose set holds the right label, the share that was to, and the labels of a set on average."""

    target_coverage: float
    coverage: float
    mean_size: float

    def to_text(self) -> str:
        return (
            f"prediction sets: {self.coverage:.1%} hold the right label ({self.target_coverage:.4g} wanted), "
            f"{self.mean_size:.2f} labels on average"
        )


class SetCount:
    """Counts an attribute's sets, some rows after others; target_coverage: the share that shall hold the right label."""

    def __init__(self, target_coverage: float) -> None:
        self._target_coverage = target_coverage
        self._rows = self._labels = self._right = 0

    def update(self, sets: pa.ChunkedArray, truth: pa.ChunkedArray) -> None:
        """Add rows: their sets, list<string>, and their right labels, string."""
        whole = sets.combine_chunks()
        rows, labels = pc.list_parent_indices(whole), pc.list_flatten(whole)
        holding = rows.filter(pc.equal(labels, truth.take(rows)))
        self._rows += len(sets)
        self._labels += len(labels)
        self._right += len(pc.unique(holding))  # a label may stand twice in a file that others wrote

    def result(self) -> SetEvaluation | None:
        """Return what was counted; None without a row."""
        if not self._rows:
            return None
        coverage, size = self._right / self._rows, self._labels / self._rows
        return SetEvaluation(target_coverage=self._target_coverage, coverage=coverage, mean_size=size)
