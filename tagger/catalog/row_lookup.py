"""Read a few rows of a large Parquet file by their numbers: only the row groups that hold them, in small pieces."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

PIECE = 1024  # rows that are in memory at once, images beside them perhaps


def read_rows(file: pq.ParquetFile, rows: Sequence[int], columns: Sequence[str]) -> pa.Table:
    """Return these rows, in this order, a row that is named twice twice; of these top-level columns.

    Reads what a row group has in these columns, so rows that lie together cost less. Raises IndexError for a row that is
    not there, pyarrow's errors for a file that cannot be read.
    """
    names = list(dict.fromkeys(columns))
    schema = pa.schema([file.schema_arrow.field(name) for name in names])
    wanted = np.unique(np.asarray(rows, np.int64))
    if len(wanted) and not 0 <= wanted[0] <= wanted[-1] < file.metadata.num_rows:
        raise IndexError(f"expected rows from 0 to {file.metadata.num_rows - 1}, found {wanted[0]} to {wanted[-1]}")
    found = [batch.select(names) for batch in _pieces(file, wanted, names)]
    table = pa.Table.from_batches(found, schema)
    return table.take(pa.array(np.searchsorted(wanted, np.asarray(rows, np.int64)))).combine_chunks()


def _pieces(file: pq.ParquetFile, wanted: NDArray[np.int64], names: list[str]) -> Iterator[pa.RecordBatch]:
    """Yield the wanted rows, ascending, as record batches."""
    start = 0
    for group in range(file.metadata.num_row_groups):
        stop = start + file.metadata.row_group(group).num_rows
        if np.searchsorted(wanted, stop) > np.searchsorted(wanted, start):
            for batch in file.iter_batches(PIECE, row_groups=[group], columns=names):
                inside = wanted[(wanted >= start) & (wanted < start + len(batch))]
                if len(inside):
                    yield batch.take(pa.array(inside - start))
                start += len(batch)
        start = stop
