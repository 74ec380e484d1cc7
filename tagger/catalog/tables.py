"""Recognise tables whose folders also hold deleted rows: Delta Lake is read through its log, the others are refused."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from fnmatch import fnmatchcase
from pathlib import Path, PurePath, PurePosixPath
from typing import TYPE_CHECKING
from urllib.parse import unquote

import pyarrow as pa

from tagger.core.errors import ManifestError
from tagger.core.text import first_line

if TYPE_CHECKING:
    from deltalake import DeltaTable

# format -> the sub-folder that marks it, and what lies in that
MARKS = {"Delta": ("_delta_log", "*"), "Hudi": (".hoodie", "*"), "Iceberg": ("metadata", "*.metadata.json")}
# What a reader must know, and what is known here; whether deletion vectors and column mapping are in use is seen apart.
READER_FEATURES = {"columnMapping", "deletionVectors", "timestampNtz", "typeWidening", "v2Checkpoint", "vacuumProtocolCheck"}

ListNames = Callable[[str], Iterable[str]]


def list_names(folder: str) -> list[str]:
    """Return the names in a folder of this machine; none where there is no such folder. Raises OSError."""
    try:
        return [path.name for path in Path(folder).iterdir()]
    except (FileNotFoundError, NotADirectoryError):
        return []


def table_format(folder: PurePath, names_in: ListNames) -> str | None:
    """Return the format of the table whose folder this is, if it is one. names_in: lists a folder's names, wherever it lies."""
    for kind, (mark, pattern) in MARKS.items():
        if any(fnmatchcase(name, pattern) for name in names_in(f"{folder}/{mark}")):
            return kind
    return None


def require_no_table(name: str, folders: Iterable[PurePath], names_in: ListNames) -> None:
    """Require that none of these folders is a table's: its files hold rows that the table has deleted. Raises ManifestError."""
    for folder in folders:
        kind = table_format(folder, names_in)
        if kind == "Delta":
            raise ManifestError(
                f"{name}: expected files of no table, found the Delta table {folder}, which also holds rows that it has deleted; "
                "name that folder"
            )
        if kind:
            raise ManifestError(
                f"{name}: expected Parquet files, found the {kind} table {folder}, which also holds rows that it has deleted; "
                "export its current rows to Parquet, and name those"
            )


def read_delta(folder: Path) -> tuple[tuple[Path, ...], pa.Table]:
    """Return the current files of a Delta table, by name, and its partition columns, a row for each file.

    Raises ManifestError where the library or the log cannot be read, or the rows of these files are not those of the table.
    """
    names, partitions = read_delta_names(str(folder), folder)
    return tuple(folder / name for name in names), partitions


def read_delta_names(name: str, folder: Path) -> tuple[list[str], pa.Table]:
    """Return the same with names relative to the table. folder: holds the log, and need not hold more; name: for messages."""
    try:
        from deltalake import DeltaTable
    except ImportError as error:
        raise ManifestError(
            f"{name}: expected Parquet files, found a Delta table, and no library that reads its log; pip install 'tagger[delta]'"
        ) from error
    try:
        table = DeltaTable(str(folder))
        _require_plain(name, table)
        added = pa.table(table.get_add_actions(flatten=True)).sort_by("path")
    except ManifestError:
        raise
    except Exception as error:
        raise ManifestError(
            f"{name}: expected a Delta table, found a log that cannot be read: {first_line(error)}; repair the table"
        ) from error
    names = [unquote(path) for path in added["path"].to_pylist()]
    for path in names:
        if "://" in path or path.startswith("/") or ".." in PurePosixPath(path).parts:
            raise ManifestError(f"{name}: expected a Delta table's files in its folder, found {path}; export its rows to Parquet")
    if not names:
        raise ManifestError(f"{name}: expected rows, found a Delta table that is empty; name another manifest")
    keys = {column: column.removeprefix("partition.") for column in added.schema.names if column.startswith("partition.")}
    return names, added.select(list(keys)).rename_columns(list(keys.values()))


def _require_plain(name: str, table: DeltaTable) -> None:
    """Require that the table's rows are those of its files. Raises ManifestError."""
    protocol, properties = table.protocol(), table.metadata().configuration
    found = [f"the feature {feature}" for feature in sorted(set(protocol.reader_features or ()) - READER_FEATURES)]
    if properties.get("delta.columnMapping.mode", "none") != "none":
        found.append("column mapping")
    try:
        deleted = any(batch.num_rows for batch in table.deletion_vectors())
    except Exception:  # noqa: BLE001  # there are some, in a file that is broken or, of a table on a store, not here
        deleted = True
    if deleted:
        found.append("rows deleted by deletion vectors (REORG TABLE … APPLY (PURGE) writes them out)")
    if found:
        raise ManifestError(
            f"{name}: expected a Delta table whose rows are those of its files, found {' and '.join(found)}; export its rows to "
            "Parquet, and name those"
        )
