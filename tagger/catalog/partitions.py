"""Read the columns that folder names hold: Hive partitioning, as in `category=shirt/part-0.parquet`."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import PurePosixPath
from typing import Any
from urllib.parse import unquote

import pyarrow as pa

from tagger.core.errors import ManifestError
from tagger.core.text import first_line

NO_PARTITIONS = pa.table({})
INT32 = range(-(2**31), 2**31)


def is_partition(folder: str) -> bool:
    """Tell whether a folder's name is a key and a value."""
    return folder.find("=") > 0


def hive_partitions(name: str, files: Sequence[str]) -> pa.Table:
    """Return a row for each file and a column for each key in their folders, with null where a file has no such folder.

    files: names relative to the partitions' root, with slashes. Names are percent-decoded, `__HIVE_DEFAULT_PARTITION__` is null.
    A column is int32 if every value is an integer as int32 writes it, which pyarrow infers as well; "007" makes it a string.
    Raises ManifestError.
    """
    folders = [PurePosixPath(file).parts[:-1] for file in files]
    keys = dict.fromkeys(unquote(part.partition("=")[0]) for parts in folders for part in parts if is_partition(part))
    if not keys:
        return NO_PARTITIONS
    import pyarrow.dataset as ds

    hive = ds.HivePartitioning(pa.schema([(key, pa.string()) for key in keys]))
    try:
        rows = [ds.get_partition_keys(hive.parse("/".join((*parts, "")))) for parts in folders]
    except (pa.ArrowException, UnicodeError) as error:
        raise ManifestError(
            f"{name}: expected folders named key=value in UTF-8, found: {first_line(error)}; rename them"
        ) from error
    return pa.table({key: _column([row.get(key) for row in rows]) for key in keys})


def partition_of(partitions: pa.Table, number: int) -> dict[str, Any]:
    """Return the values that hold for all rows of a file, by column. number: the file's, from 0."""
    return {name: partitions[name][number].as_py() for name in partitions.column_names}


def _column(texts: Sequence[str | None]) -> pa.Array:
    values = [text for text in texts if text is not None]
    if values and all(re.fullmatch("0|-?[1-9][0-9]{0,9}", text) and int(text) in INT32 for text in values):
        return pa.array([text if text is None else int(text) for text in texts], pa.int32())
    return pa.array(texts, pa.string())
