"""Write people's corrections into the truth column of a manifest, or of a result: whole, by one rename, or not at all.

Beside the truth column stand, by its name, `_by` and `_at`, who said so and when, and `_note`: "not-in-list", none of the labels
is right, or "bad-picture", the picture tells nothing. A row with a note has no truth: it counts in no accuracy and teaches
nothing, and whoever measures how well strangers are recognised finds them by their note.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from tagger.catalog.corrections import Correction, Corrections, name_some
from tagger.catalog.manifest import Manifest, Shard, image_refs
from tagger.catalog.review_table import image_hash
from tagger.catalog.schemas import METADATA_KEY, is_text, tagger_metadata
from tagger.core import shutdown
from tagger.core.errors import ManifestError
from tagger.core.files import flush

BY, AT, NOTE = "_by", "_at", "_note"  # after the truth column's name
TIME = pa.timestamp("ms", "UTC")


@dataclass(kw_only=True)
class Applied:
    """What became of the corrections: `written` rows, `confirmed` ones that said the same already, and those that were `kept`.

    kept: a text for each row whose truth differs and stays. changed: whether any cell differs. output: where the rows are;
    None where nothing had to change.
    """

    written: int = 0
    confirmed: int = 0
    changed: bool = False
    kept: list[str] = field(default_factory=list)
    output: Path | str | None = None


def with_truth(manifest: Manifest, attribute: str, truth_column: str) -> pa.Schema:
    """Return a manifest's schema with the truth column and those beside it, before the tag columns, if it was opened with them.

    A result says in its metadata, too, which column is the attribute's truth. Raises ManifestError for columns of these names
    that hold something else.
    """
    schema = manifest.schema
    wanted = {
        truth_column: pa.string(),
        truth_column + BY: pa.string(),
        truth_column + AT: TIME,
        truth_column + NOTE: pa.string(),
    }
    described = tagger_metadata(schema)
    place = min(
        [schema.names.index(name) for name in described.get("tag_columns", ()) if name in schema.names], default=len(schema)
    )
    for name, kind in wanted.items():
        if name not in schema.names:
            schema, place = schema.insert(place, pa.field(name, kind)), place + 1
            continue
        found = schema.field(name)
        if not is_text(found.type) and not (name.endswith(AT) and pa.types.is_timestamp(found.type)):
            raise ManifestError(
                f"{manifest.name}: column {name}: expected {kind}, found {found.type}; rename it, or name another truth_column"
            )
        schema = schema.set(schema.names.index(name), found.with_nullable(True))
    for item in described.get("attributes", ()):
        if item["name"] == attribute and item["truth_column"] != truth_column:
            item["truth_column"] = truth_column
            text = json.dumps(described, ensure_ascii=False).encode()
            schema = schema.with_metadata({**(schema.metadata or {}), METADATA_KEY: text})
    return schema


class TruthWriter:
    """Writes a manifest's rows with the corrections in them; `schema` is that of `with_truth`.

    overwrite: replace truth that differs. now: the time of corrections that have none. Memory does not grow with the rows.
    """

    def __init__(
        self, manifest: Manifest, schema: pa.Schema, truth_column: str, corrections: Corrections, overwrite: bool, now: datetime
    ) -> None:
        self._manifest, self._schema, self._truth = manifest, schema, truth_column
        self._corrections, self._overwrite, self._now = corrections, overwrite, now
        self._keys = pa.array(list(corrections.by_key), pa.string())
        self._found: Counter[str] = Counter()
        self._other_images: list[str] = []
        self._applied = Applied()

    def write(self, file: Path) -> Applied:
        """Write the file, flush it and open it again to check it; what becomes of it is the caller's.

        Raises ManifestError, which names them, for corrections of rows that there are not, that are there more than once, or
        that have another image by now; OSError.
        """
        rows = 0
        with pq.ParquetWriter(file, self._schema, compression="zstd") as writer:
            for table in self._tables():
                writer.write_table(table, row_group_size=max(len(table), 1))
                rows += len(table)
        self._require_all()
        flush(file)
        with pq.ParquetFile(file) as written:
            if written.metadata.num_rows != rows or not written.schema_arrow.equals(self._schema):
                raise OSError(f"{rows} rows were written, others are in {file}")
        return self._applied

    def _tables(self) -> Iterator[pa.Table]:
        for shard, table in self._manifest.read(self._manifest.shards()):
            shutdown.check()
            changes = {row: one for row, one in self._matches(shard, table) if self._changes(table, row, one)}
            self._applied.changed |= bool(changes)
            columns = [self._column(table, one, changes) for one in self._schema]
            yield pa.Table.from_arrays(columns, schema=self._schema)

    def _matches(self, shard: Shard, table: pa.Table) -> Iterator[tuple[int, Correction]]:
        """Yield the rows of a shard that were corrected, from 0, whose image is the one that was seen."""
        image_column, id_column = self._manifest.image_column, self._corrections.id_column
        if id_column is None:
            refs = image_refs(table.select([image_column]), image_column, 0)
            keys = pa.array([image_hash(ref) for ref in refs], pa.string())
        else:
            keys = pc.cast(table[id_column], pa.string())
        places = pc.index_in(keys, self._keys)
        for row in np.flatnonzero(pc.is_valid(places).to_numpy(zero_copy_only=False)).tolist():
            one = self._corrections.by_key[keys[row].as_py()]
            self._found[one.key] += 1
            [ref] = image_refs(table.select([image_column]).slice(row, 1), image_column, 0)
            if image_hash(ref) == one.image_hash:
                yield row, one
            else:
                self._other_images.append(f"{one.key} (row {shard.start + row})")

    def _changes(self, table: pa.Table, row: int, one: Correction) -> bool:
        """Count the correction; tell whether it is to be written."""
        names = (self._truth, self._truth + NOTE)
        truth, note = (table[name][row].as_py() or None if name in table.column_names else None for name in names)
        if (truth, note) == one.answer:
            self._applied.confirmed += 1
            by = self._truth + BY
            return bool(one.by) and (by not in table.column_names or not table[by][row].as_py())
        if (truth, note) != (None, None) and not self._overwrite:
            self._applied.kept.append(f"{one.key} ({truth or note}, corrected: {one.truth or one.note})")
            return False
        self._applied.written += 1
        return True

    def _column(self, table: pa.Table, one: pa.Field, changes: Mapping[int, Correction]) -> pa.Array | pa.ChunkedArray:
        """Return a column of the shard with the changes in it."""
        values: dict[str, Callable[[Correction], Any]] = {
            self._truth: lambda change: change.truth,
            self._truth + BY: lambda change: change.by,
            self._truth + AT: lambda change: _time(change.at or self._now, one.type),
            self._truth + NOTE: lambda change: change.note,
        }
        there = one.name in table.column_names
        if one.name not in values or (there and not changes):
            return table[one.name]
        cells = table[one.name].to_pylist() if there else [None] * len(table)
        for row, change in changes.items():
            cells[row] = values[one.name](change)
        return pa.array(cells, one.type)

    def _require_all(self) -> None:
        name, corrections = self._manifest.name, self._corrections
        if missing := [key for key in corrections.by_key if key not in self._found]:
            what = corrections.id_column or f"image in {self._manifest.image_column}"
            shown = missing if corrections.id_column else [f"hash {key[:8]}" for key in missing]
            raise ManifestError(
                f"{name}: expected all corrected rows, found no {what} {name_some(shown)}, {len(missing)} of "
                f"{len(corrections.by_key)}; they are of another catalogue, or a spreadsheet changed them; nothing was written"
            )
        repeated = [f"{key} ({count} rows)" for key, count in self._found.items() if count > 1]
        if corrections.id_column and repeated:
            raise ManifestError(
                f"{name}: id column {corrections.id_column}: expected every corrected value once, found {len(repeated)} in "
                f"several rows: {name_some(repeated)}; correct the manifest; nothing was written"
            )
        if self._other_images:
            raise ManifestError(
                f"{name}: expected the images that were reviewed, found others in {len(self._other_images)} rows: "
                f"{name_some(self._other_images)}; review them again; nothing was written"
            )


def _time(at: datetime, kind: pa.DataType) -> datetime | str:
    return at if pa.types.is_timestamp(kind) else at.isoformat(timespec="seconds")
