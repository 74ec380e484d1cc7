"""Read a few rows of a large Parquet file by their numbers: only the row groups that hold them, in small pieces."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from tagger.catalog.references import are_texts, image_refs
from tagger.catalog.schemas import is_bytes
from tagger.core.types import ImageRef

PIECE = 1024  # rows that are in memory at once, images beside them perhaps


def read_rows(file: pq.ParquetFile, rows: Sequence[int], columns: Sequence[str]) -> pa.Table:
    """Return these rows, in this order, a row that is named twice twice. The arguments and errors are those of stream_rows."""
    wanted = np.asarray(rows, np.int64)
    empty = file.read_row_groups([], columns=list(columns))
    found = [pa.Table.from_batches([batch]) for _, batch in stream_rows(file, rows, columns)]
    place = np.searchsorted(np.unique(wanted), wanted)
    return pa.concat_tables([empty, *found]).take(pa.array(place)).combine_chunks()


def stream_rows(file: pq.ParquetFile, rows: Sequence[int], columns: Sequence[str]) -> Iterator[tuple[list[int], pa.RecordBatch]]:
    """Yield these rows, each once and ascending, in batches: their numbers, and the columns.

    columns: names, or paths such as "image.path" of a part of a struct. Reads all that the rows' row groups have in these
    columns, so rows that lie together cost less. Raises IndexError for a row that is not there, pyarrow's errors for a file
    that cannot be read.
    """
    wanted = np.unique(np.asarray(rows, np.int64))
    if len(wanted) and not 0 <= wanted[0] <= wanted[-1] < file.metadata.num_rows:
        raise IndexError(f"expected rows from 0 to {file.metadata.num_rows - 1}, found {wanted[0]} to {wanted[-1]}")
    start = 0
    for group in range(file.metadata.num_row_groups):
        stop = start + file.metadata.row_group(group).num_rows
        if np.searchsorted(wanted, stop) > np.searchsorted(wanted, start):
            for batch in file.iter_batches(PIECE, row_groups=[group], columns=list(columns)):
                inside = wanted[(wanted >= start) & (wanted < start + len(batch))]
                if len(inside):
                    yield inside.tolist(), batch.take(pa.array(inside - start))
                start += len(batch)
        start = stop


def stream_refs(file: pq.ParquetFile, rows: Sequence[int], column: str) -> Iterator[ImageRef]:
    """Yield the image references of these rows of an image column, each once and ascending; errors as of stream_rows."""
    binary = is_bytes(file.schema_arrow.field(column).type)
    binary_paths = binary and are_texts(batch.column(0) for batch in file.iter_batches(PIECE, columns=[column]))
    for numbers, batch in stream_rows(file, rows, [column]):
        for number, ref in zip(numbers, image_refs(pa.chunked_array([batch.column(0)]), 0, binary_paths), strict=True):
            yield replace(ref, row=number)
