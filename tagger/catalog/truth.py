"""Read ground truth as people type it: which label each value of a truth column names.

A value names the label of the same text, else the one that differs from it only in case, space or Unicode form
(core/text.py: folded). Labels that only differ so from each other, as "Polo" and "polo", are named by their very texts alone.
Blank text is no truth, as null is.
"""

from __future__ import annotations

import json
import logging
from collections import Counter
from collections.abc import Iterator, Sequence

import pyarrow as pa
import pyarrow.compute as pc

from tagger.catalog.manifest import Manifest
from tagger.catalog.schemas import is_bytes, is_text
from tagger.core.errors import ManifestError
from tagger.core.text import folded, listed

log = logging.getLogger(__name__)

HUGGING_FACE_KEY = b"huggingface"
VALUES_KEPT = 1000  # different values whose rows are counted one by one


class TruthValues:
    """Counts rows by truth value: `rows` of all values, `counts` of up to VALUES_KEPT different ones."""

    def __init__(self) -> None:
        self.rows = 0
        self.counts: Counter[str] = Counter()

    def add(self, value: str, rows: int) -> None:
        """Count these rows."""
        self.rows += rows
        if value in self.counts or len(self.counts) < VALUES_KEPT:
            self.counts[value] += rows


class TruthReader:
    """Reads truth values as labels, part by part.

    folded: the values that are a label only once they are folded. unknown: those that are none.
    """

    def __init__(self, labels: Sequence[str]) -> None:
        self._labels = pa.array(labels, pa.string())
        texts = [folded(label) for label in labels]
        same = Counter(texts)
        self._by_folded = {text: number for number, text in enumerate(texts) if same[text] == 1}
        self.folded, self.unknown = TruthValues(), TruthValues()

    def read(self, texts: pa.Array | pa.ChunkedArray) -> pa.Array | pa.ChunkedArray:
        """Return int32, for each text the index of its label, null where it has none."""
        found = pc.index_in(texts, self._labels)
        others = texts.filter(pc.and_(pc.is_valid(texts), pc.is_null(found)))
        indices: dict[str, int] = {}
        for item in others.value_counts().to_pylist():
            value, rows = item["values"], item["counts"]
            index = self._by_folded.get(folded(value))
            if index is None:
                self.unknown.add(value, rows)
            else:
                self.folded.add(value, rows)
                indices[value] = index
        if not indices:
            return found
        places = pc.index_in(texts, pa.array(list(indices), pa.string()))
        return pc.coalesce(found, pa.array(list(indices.values()), pa.int32()).take(places))

    def read_column(self, table: pa.Table | pa.RecordBatch, column: str) -> pa.Array | pa.ChunkedArray:
        """Return int32, for each row of a result the index of its true label, null where it has none."""
        return self.read(to_text(table.column(column), table.schema, column))

    def log(self, attribute: str) -> None:
        """Say what was not a label as it stands."""
        if self.folded.rows:
            values = listed(dict(self.folded.counts.most_common()))
            log.info("%s: truth: %d values match a label but for case or space: %s", attribute, self.folded.rows, values)
        if self.unknown.rows:
            values = listed(dict(self.unknown.counts.most_common()))
            log.info("%s: truth: %d values fit no label: %s", attribute, self.unknown.rows, values)


def can_be_truth(schema: pa.Schema, column: str) -> bool:
    """Tell whether a column can hold labels: text, text without its annotation (bytes), or classes that have names."""
    kind = _values_type(schema, column)
    return is_text(kind) or is_bytes(kind) or class_names(schema, column) is not None


def class_names(schema: pa.Schema, column: str) -> tuple[str, ...] | None:
    """Return the names of a ClassLabel column of Hugging Face datasets, whose integers count them; None for other columns."""
    if not pa.types.is_integer(schema.field(column).type):
        return None
    try:
        feature = json.loads((schema.metadata or {})[HUGGING_FACE_KEY])["info"]["features"][column]
        names = feature["names"] if feature["_type"] == "ClassLabel" else None
    except (ValueError, LookupError, TypeError, RecursionError):
        return None
    return tuple(names) if isinstance(names, list) and all(isinstance(name, str) for name in names) else None


def read_texts(manifest: Manifest, column: str) -> Iterator[pa.Array]:
    """Read a truth column as a stream of arrays as `to_text` returns them. Raises ManifestError where bytes are no UTF-8."""
    row = 0
    for part in manifest.column(column):
        try:
            yield to_text(part, manifest.schema, column)
        except pa.ArrowInvalid as error:
            bad = next(place for place, value in enumerate(part.to_pylist()) if _is_no_text(value))
            raise ManifestError(
                f"{manifest.name}: truth column {column}: expected text, found bytes that are no UTF-8 in row {row + bad}; store "
                "the labels as strings, or name another column"
            ) from error
        row += len(part)


def require_text(manifest: Manifest, column: str) -> None:
    """Require a truth column of bytes to be text, which takes reading it; ManifestError."""
    if is_bytes(_values_type(manifest.schema, column)):
        for _ in read_texts(manifest, column):
            pass


def to_text(values: pa.Array | pa.ChunkedArray, schema: pa.Schema, column: str) -> pa.Array | pa.ChunkedArray:
    """Return the values of a truth column as strings, null where a row has none. Raises ArrowInvalid for bytes that are no UTF-8.

    Integers of classes become their names; -1 stands for none, and a number without a name for itself.
    """
    names, none = class_names(schema, column), pa.scalar(None, pa.string())
    if names is None:
        texts = pc.cast(values, pa.string())
    else:
        numbers = pc.cast(values, pa.int64())
        named = pc.and_(pc.greater_equal(numbers, 0), pc.less(numbers, len(names)))
        known = pc.take(pa.array(names, pa.string()), pc.if_else(named, numbers, pa.scalar(None, pa.int64())))
        texts = pc.coalesce(known, pc.if_else(pc.equal(numbers, -1), none, pc.cast(numbers, pa.string())))
    return pc.if_else(pc.equal(pc.utf8_trim_whitespace(texts), ""), none, texts)


def _values_type(schema: pa.Schema, column: str) -> pa.DataType:
    kind = schema.field(column).type
    return kind.value_type if pa.types.is_dictionary(kind) else kind


def _is_no_text(value: bytes | None) -> bool:
    try:
        return value is not None and value.decode() is None
    except UnicodeDecodeError:
        return True
