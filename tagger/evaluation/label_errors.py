"""Labelled rows whose truth looks wrong: what the model confidently denies, by confident learning (Northcutt et al. 2021)."""

from __future__ import annotations

from importlib.util import find_spec

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

LABELLED_KEPT = 5_000_000  # probabilities that are judged together, some 40 bytes each; beyond, the first labelled rows are


def can_suspect() -> bool:
    """Tell whether cleanlab, the extra that judges, is installed."""
    return find_spec("cleanlab") is not None


class LabelErrors:
    """Collects labelled rows of a result, and finds those whose truth is probably wrong.

    labels: the attribute's. A result has the probabilities of the best few labels: the others share what is left evenly.
    """

    def __init__(self, attribute: str, labels: tuple[str, ...]) -> None:
        self._attribute, self._labels = attribute, pa.array(labels, pa.string())
        self._rows: list[NDArray[np.int64]] = []
        self._targets: list[NDArray[np.int64]] = []
        self._probabilities: list[NDArray[np.float32]] = []
        self._room = LABELLED_KEPT // max(len(labels), 1)

    @property
    def is_full(self) -> bool:
        """Whether further rows would be left out."""
        return self._room <= 0

    def update(self, table: pa.Table, targets: NDArray[np.int64], first_row: int) -> None:
        """Add rows of a result; targets: int64 (N,), indices of their true labels, -1 where a row has none."""
        usable = (targets >= 0) & pc.is_valid(table[f"{self._attribute}_label"]).to_numpy()
        rows = np.flatnonzero(usable)[: self._room]
        if not len(rows):
            return
        self._room -= len(rows)
        top = table[f"{self._attribute}_top"].take(pa.array(rows)).combine_chunks()
        self._rows.append(rows + first_row)
        self._targets.append(targets[rows])
        self._probabilities.append(_probabilities(top, self._labels))

    def find(self) -> NDArray[np.int64]:
        """Return int64 (M,), the suspicious rows, the worst first: those whose truth is the least likely."""
        if not self._rows:
            return np.empty(0, np.int64)
        from cleanlab.filter import find_label_issues  # an extra

        rows, targets = np.concatenate(self._rows), np.concatenate(self._targets)
        probabilities = np.concatenate(self._probabilities)
        # cleanlab wants the labels that occur, numbered without gaps.
        occurring, numbers = np.unique(targets, return_inverse=True)
        if len(occurring) < 2:
            return np.empty(0, np.int64)
        among = probabilities[:, occurring].astype(np.float64)
        among /= np.maximum(among.sum(1, keepdims=True), np.finfo(np.float64).tiny)
        worst = find_label_issues(numbers, among, return_indices_ranked_by="self_confidence", min_examples_per_class=0, n_jobs=1)
        found: NDArray[np.int64] = rows[worst]
        return found


def _probabilities(top: pa.Array, labels: pa.Array) -> NDArray[np.float32]:
    """Return float32 (N, K) of a result's list<struct<label, confidence>> column without nulls."""
    flat = top.flatten()
    row = np.repeat(np.arange(len(top)), np.diff(top.offsets.to_numpy()))
    column = pc.index_in(flat.field("label"), labels).to_numpy(zero_copy_only=False)
    confidence = flat.field("confidence").to_numpy()
    whole = np.full((len(top), len(labels)), np.nan, np.float32)
    whole[row, column] = confidence
    unknown = np.isnan(whole)
    left = np.maximum(1 - np.nansum(whole, axis=1), 0) / np.maximum(unknown.sum(1), 1)
    return np.where(unknown, left[:, None], whole).astype(np.float32)
