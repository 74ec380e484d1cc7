"""Count the labels that differ from an earlier result, and keep examples; rows may have come, gone and moved in between."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray

from tagger.catalog.manifest import READ_BUFFER
from tagger.catalog.results import open_results
from tagger.catalog.schemas import is_bytes, tagger_metadata
from tagger.core.errors import ManifestError, StoppedError
from tagger.core.files import reason

BATCH = 1 << 16  # rows that are read together: a key, and a label and a confidence for each attribute
EXAMPLES = 24  # changed rows of an attribute that are kept


@dataclass(frozen=True, kw_only=True)
class ChangedRow:
    """A row of the result, counted from 0, whose label differs from the earlier result's, with the confidences of both."""

    row: int
    before: str
    now: str
    confidence_before: float
    confidence_now: float


@dataclass(frozen=True)
class Changed:
    """How many rows have a label in both results, and in how many of them it differs; the EXAMPLES most confident of those."""

    rows: int = 0
    changed: int = 0
    examples: tuple[ChangedRow, ...] = ()


@dataclass(frozen=True)
class NotCompared:
    """Why a result is not compared with an earlier one; `unreadable`: there is one, and what it says is not known."""

    reason: str
    unreadable: bool = False


NO_EARLIER = NotCompared("there is no earlier result to compare with")


def compare_with(previous: Path, schema: pa.Schema, key: str, attributes: Sequence[str]) -> LabelChanges | str:
    """Read the labels of an earlier result; return them, or why rows of this schema cannot be matched with its rows.

    key: the column that says which row is which: an id, or the image reference. Raises StoppedError where the result cannot
    be read.
    """
    try:
        with open_results(previous) as file:
            found = file.schema_arrow
        if is_bytes(schema.field(key).type):
            return "embedded images have no name to match rows by; set [manifest] id_column"
        if key not in found.names or is_bytes(found.field(key).type):
            return f"the earlier result has no column {key} to match rows by"
        return LabelChanges(previous, key, attributes)
    except (OSError, pa.ArrowException, ManifestError, LookupError) as error:
        raise StoppedError(
            f"{previous}: expected to read the labels of the earlier result, found: {reason(error)}; nothing was published; run "
            "again"
        ) from error


class LabelChanges:
    """Compares rows with the labels of an earlier result, kept at 8 bytes a row for its key's hash and 8 for each attribute.

    key: a column of texts, numbers or structs with a path; rows without one are not compared. counts: attribute -> what was
    found so far.
    """

    def __init__(self, previous: Path, key: str, attributes: Sequence[str]) -> None:
        self._key, self._row = key, 0
        self.counts = dict.fromkeys(attributes, Changed())
        with pq.ParquetFile(previous, buffer_size=READ_BUFFER, pre_buffer=False) as file:
            described = {item["name"]: item["labels"] for item in tagger_metadata(file.schema_arrow)["attributes"]}
            self._labels = {name: pa.array(described[name], pa.string()) for name in attributes if name in described}
            rows = file.metadata.num_rows
            keys = np.empty(rows, np.uint64)
            codes = {name: np.empty(rows, np.int32) for name in self._labels}
            confidences = {name: np.empty(rows, np.float32) for name in self._labels}
            start = 0
            # Of a struct only the path is read, not the images beside it.
            leaf = f"{key}.path" if pa.types.is_struct(file.schema_arrow.field(key).type) else key
            columns = [f"{name}_{what}" for name in codes for what in ("label", "confidence")]
            for batch in file.iter_batches(BATCH, columns=[leaf, *columns]):
                stop = start + len(batch)
                keys[start:stop], known = _hashes(batch.column(key))
                for name, labels in self._labels.items():
                    found = pc.index_in(batch.column(f"{name}_label"), labels)
                    codes[name][start:stop] = np.where(known, pc.fill_null(found, -1).to_numpy(zero_copy_only=False), -1)
                    confidences[name][start:stop] = batch.column(f"{name}_confidence").to_numpy(zero_copy_only=False)
                start = stop
        order = np.argsort(keys)
        self._keys = keys[order]
        self._codes, self._confidences = ({name: one[order] for name, one in kept.items()} for kept in (codes, confidences))

    def update(self, table: pa.Table) -> None:
        """Compare the next rows of a result, and add them to the counts."""
        first, self._row = self._row, self._row + len(table)
        if not len(self._keys):
            return
        keys, known = _hashes(table[self._key].combine_chunks())
        place = np.minimum(np.searchsorted(self._keys, keys), len(self._keys) - 1)
        known &= self._keys[place] == keys
        for name, labels in self._labels.items():
            column = table[f"{name}_label"]
            now = pc.fill_null(pc.index_in(column, labels), -1).to_numpy()
            then = self._codes[name][place]
            both = known & (then >= 0) & pc.is_valid(column).to_numpy()
            differing = np.flatnonzero(both & (now != then))
            confidence = table[f"{name}_confidence"].to_numpy()
            examples = [
                ChangedRow(
                    row=first + row,
                    before=labels[then[row]].as_py(),
                    now=column[row].as_py(),
                    confidence_before=float(self._confidences[name][place[row]]),
                    confidence_now=float(confidence[row]),
                )
                for row in differing[np.argsort(-confidence[differing], kind="stable")[:EXAMPLES]].tolist()
            ]
            count = self.counts[name]
            best = sorted([*count.examples, *examples], key=lambda one: (-one.confidence_now, one.row))[:EXAMPLES]
            self.counts[name] = Changed(count.rows + int(both.sum()), count.changed + len(differing), tuple(best))


def _hashes(column: pa.Array) -> tuple[NDArray[np.uint64], NDArray[np.bool_]]:
    """Return a hash for each value, uint64 (N,), and whether there is a value, bool (N,)."""
    import pandas as pd  # half a second to import, for those who have an earlier result

    if pa.types.is_struct(column.type):
        column = pc.struct_field(column, "path")
    texts = pc.cast(column, pa.string())
    return pd.util.hash_array(texts.to_numpy(zero_copy_only=False)), pc.is_valid(texts).to_numpy(zero_copy_only=False)
