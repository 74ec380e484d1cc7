"""Parquet out: tag columns, written shard by shard and published by one atomic rename."""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from tagger.catalog.manifest import unreadable
from tagger.catalog.schemas import TOP_TYPE, tagger_metadata
from tagger.errors import ImageError, ManifestError
from tagger.types import Decision

MAX_REASON = 300  # characters of an error's message that are kept


def tag_columns(
    rows: int,
    tagged: NDArray[np.int64],
    decisions: Mapping[str, tuple[Sequence[str], Decision]],
    errors: Mapping[int, ImageError],
) -> list[pa.Array]:
    """The arrays of schemas.tag_fields for `rows` rows.

    tagged: int64 (N,), the rows (from 0) that the decisions are about, ascending; decisions: attribute -> its label names
    and its decision; errors: row -> error. Every row is in one of the two.
    """
    place = np.full(rows, -1, np.int64)
    place[tagged] = np.arange(len(tagged))
    missing = place < 0
    where = pa.array(place, mask=missing)  # taking with a null index gives a null
    columns: list[pa.Array] = []
    for labels, decision in decisions.values():
        names = pa.array(labels, pa.string())
        width = decision.top.shape[1]
        flat = pa.StructArray.from_arrays(
            [names.take(pa.array(decision.top.ravel())), pa.array(decision.confidence.ravel(), pa.float32())],
            fields=list(TOP_TYPE.value_type),
        )
        top = pa.ListArray.from_arrays(np.arange(len(tagged) + 1, dtype=np.int32) * width, flat, type=TOP_TYPE)
        columns += [
            names.take(pa.array(decision.top[:, 0])).take(where),
            pa.array(decision.confidence[:, 0], pa.float32()).take(where),
            top.take(where),
            pa.array([decision.source], pa.string()).take(pa.array(np.zeros(rows, np.int64), mask=missing)),
        ]
    reasons: list[str | None] = [None] * rows
    status = ["tagged"] * rows
    for reviews in zip(*(decision.review for _, decision in decisions.values()), tagged.tolist(), strict=True):
        if given := "; ".join(reason for reason in reviews[:-1] if reason is not None):
            reasons[reviews[-1]], status[reviews[-1]] = given, "review"
    for row, error in errors.items():
        reasons[row], status[row] = str(error)[:MAX_REASON], "error"
    return [*columns, pa.array(status, pa.string()), pa.array(reasons, pa.string())]


class ResultsWriter:
    """Writes shards to a temporary file; `commit` renames it to `output`, which until then is not touched.

    The temporary file lies in `folder`, on the file system of `output`; it is gone after the `with` block. Raises OSError
    when the disk is full or cannot be written.
    """

    def __init__(self, output: Path, folder: Path, schema: pa.Schema) -> None:
        self.output, self.rows = output, 0
        self._temporary = folder / "results.parquet.tmp"
        self._writer = pq.ParquetWriter(self._temporary, schema, compression="zstd")

    def __enter__(self) -> Self:
        return self

    def write(self, table: pa.Table) -> None:
        """Append one shard, as one row group."""
        self._writer.write_table(table, row_group_size=max(len(table), 1))
        self.rows += len(table)

    def commit(self) -> None:
        """Publish: close, flush to the disk, check, rename, flush the folder."""
        self._writer.close()
        flush(self._temporary)
        if (written := pq.read_metadata(self._temporary).num_rows) != self.rows:
            raise OSError(f"{self.rows} rows were written, {written} are in the file")
        if self.output.exists():
            shutil.copymode(self.output, self._temporary)
        self._temporary.replace(self.output)
        flush(self.output.parent)

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        try:
            self._writer.close()
        except OSError:
            if error is None:  # else the first error is the one to hear of
                raise
        finally:
            self._temporary.unlink(missing_ok=True)


def write_text(path: Path, text: str) -> None:
    """Write a small file whole or not at all."""
    temporary = path.with_name(f"{path.name}.tmp")
    temporary.write_text(text, encoding="utf-8")
    flush(temporary)
    temporary.replace(path)


def flush(path: Path) -> None:
    """Wait until the file's content, or the folder's names, are on the disk."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def open_results(path: Path) -> pq.ParquetFile:
    """Open a file that a run of tagger wrote; ManifestError if it is not one."""
    try:
        file = pq.ParquetFile(path)
    except (pa.ArrowException, OSError) as error:
        raise unreadable(path, error) from error
    if not tagger_metadata(file.schema_arrow):
        raise ManifestError(f"{path}: expected results of tagger, found a Parquet file without them; tag it with tagger run")
    return file
