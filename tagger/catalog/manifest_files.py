"""Find the files that a manifest's name means: one, those of a folder with its sub-folders, a glob's, or a table's current ones.

Which names in a folder are read is decided by `choose_names`, for folders of this machine and of object stores alike.
"""

from __future__ import annotations

import glob
import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from glob import has_magic
from pathlib import Path, PurePosixPath

import pyarrow as pa

from tagger.catalog.foreign_formats import describe_format
from tagger.catalog.partitions import NO_PARTITIONS, hive_partitions, is_partition
from tagger.catalog.tables import list_names, read_delta, require_no_table, table_format
from tagger.core.errors import ManifestError
from tagger.core.text import first_line

ENDINGS = (".parquet", ".parq", ".pq")
_TABLES = ".csv .tsv .txt .json .jsonl .ndjson .xls .xlsx .ods .feather .arrow .ipc .orc .avro .db .sqlite"
OTHER_DATA = (*_TABLES.split(), ".gz", ".bz2", ".xz", ".zst", ".zip")
RESULTS = (".tagged.parquet", ".rejected.parquet")
RUN_FOLDER = ".run"
SHOWN = 5


@dataclass(frozen=True)
class ManifestFiles:
    """The files of a manifest, in the order of their rows.

    folder: the named folder, or the one that the file or the glob's files lie in. partitions: a row for each file, a column for
    each key of Hive partitioning or of a Delta table. left_out: files that look like data and are not read, with the reason.
    """

    folder: Path
    files: tuple[Path, ...]
    partitions: pa.Table
    left_out: Sequence[str] = ()

    def notes(self, name: str) -> list[str]:
        """Return what a person must know of the choice: a line that names what is not read, if anything."""
        if not self.left_out:
            return []
        more = f" and {len(self.left_out) - SHOWN:,} more" if len(self.left_out) > SHOWN else ""
        return [f"{name}: {len(self.files):,} files are read; not read: {', '.join(self.left_out[:SHOWN])}{more}"]


def find_files(name: str) -> ManifestFiles:
    """Return the files that `name` means. Raises ManifestError where there is none, or reading them would give deleted rows."""
    path = Path(name)
    try:
        if path.is_file():
            require_no_table(name, path.absolute().parents, list_names)
            return ManifestFiles(path.parent, (path,), NO_PARTITIONS)
        folder = path if path.is_dir() else Path(fixed_part(name))
        if path.is_dir() and table_format(path, list_names) == "Delta":
            require_no_table(name, path.absolute().parents, list_names)
            return ManifestFiles(path, *read_delta(path))
        found = _walk(path) if path.is_dir() else _match(name, folder)
        chosen, left_out = choose_names(name, found, from_glob=not path.is_dir())
        files = [folder / one for one in chosen]
        folders = {parent for file in files for parent in file.absolute().parents if not is_partition(parent.name)}
        require_no_table(name, sorted(folders | {folder.absolute()}, reverse=True), list_names)
    except OSError as error:
        raise ManifestError(f"{name}: expected a folder that can be read, found: {error.strerror}; correct its rights") from error
    for file in files:
        if not file.is_file() and not file.is_symlink():  # a broken link is an error when it is read
            raise ManifestError(f"{file}: expected a Parquet file, found a pipe or a device; remove it")
    root = partition_root(folder)
    partitions = hive_partitions(name, [file.relative_to(root).as_posix() for file in files])
    return ManifestFiles(folder, tuple(files), partitions, left_out)


def choose_names(name: str, found: Iterable[str], from_glob: bool) -> tuple[list[str], list[str]]:
    """Return which of the files found are the manifest, in order, and which look like data and are not, with the reason.

    found: their names relative to the folder, with slashes. A folder's files are known by their endings, a glob names its own.
    Results of tagger in a folder, or matched by a glob that does not name them, are never taken for input. Raises ManifestError
    if nothing is left.
    """
    chosen, left_out = [], []
    results_too = from_glob and any(ending.split(".")[1] in PurePosixPath(name).name for ending in RESULTS)
    for one in found:
        reason = _reason_against(one, from_glob, results_too)
        if reason is None:
            chosen.append(one)
        elif reason:
            left_out.append(f"{one} ({reason})")
    chosen.sort(key=lambda text: text.split("/"))
    left_out.sort()
    if chosen:
        return chosen, left_out
    if left_out:
        listed = f"{', '.join(left_out[:SHOWN])}{' and more' if len(left_out) > SHOWN else ''}"
        raise ManifestError(f"{name}: expected Parquet files ({', '.join(ENDINGS)}), found only {listed}; name or convert a file")
    if from_glob:
        raise ManifestError(f"{name}: expected a Parquet file, a folder of them or a glob, found none; check the path")
    raise ManifestError(
        f"{name}: expected Parquet files in this folder, found no {', no '.join(ENDINGS)}; name the manifest file"
    )


def _reason_against(name: str, any_ending: bool, results_too: bool) -> str | None:
    """Return why a file is not read: None where it is, an empty text where nobody would take it for data."""
    *folders, file = name.lower().split("/")
    is_parquet = file.endswith(ENDINGS)
    looks_like_data = is_parquet or file.endswith(OTHER_DATA) or (".parquet" in file and not file.endswith(".crc"))
    if any(part.startswith(".") for part in (*folders, file)):
        return ""
    if any(part.startswith("_") and not is_partition(part) for part in (*folders, file)):
        return "hidden by its _" if looks_like_data else ""
    if any(part.endswith(RUN_FOLDER) for part in folders) and not results_too:
        return "in a run folder of tagger" if is_parquet and "parts" not in folders else ""
    if file.endswith(RESULTS) and not results_too:
        return "a result of tagger"
    if is_parquet or any_ending:
        return None
    return "not Parquet by its name" if looks_like_data else ""


def fixed_part(pattern: str) -> str:
    """Return the folder that all matches of a glob lie in: what stands before its first component with a wildcard."""
    fixed: list[str] = []
    for part in Path(pattern).parts[:-1]:
        if has_magic(part):
            break
        fixed.append(part)
    return str(Path(*fixed))


def partition_root(folder: Path) -> Path:
    """Return where the key=value folders start that lead to `folder`, so that a part of a partitioned table has its columns."""
    return partition_root(folder.parent) if is_partition(folder.name) else folder


def _walk(folder: Path) -> Iterator[str]:
    """Find the names of all files below a folder; links are followed, each folder is entered once. Raises OSError."""
    entered = {os.path.realpath(folder)}
    for base, folders, files in os.walk(folder, followlinks=True, onerror=_raise):
        entries = sorted(name for name in folders if not name.startswith("."))
        real = {name: os.path.realpath(Path(base, name)) for name in entries}
        folders[:] = [name for name, path in real.items() if path not in entered]
        entered.update(real.values())
        below = Path(base).relative_to(folder).as_posix()
        yield from (name if below == "." else f"{below}/{name}" for name in files)


def _match(pattern: str, folder: Path) -> set[str]:
    """Find the names below `folder` of the files that a glob matches, and of all in folders that it matches. Raises OSError."""
    found = set()
    for match in map(Path, glob.glob(pattern, recursive=True)):  # noqa: PTH207  # a Path has no absolute glob
        name = match.relative_to(folder).as_posix()
        if not match.is_dir():
            found.add(name)
        elif "**" not in Path(pattern).parts:
            found |= {f"{name}/{below}" for below in _walk(match) if below.lower().endswith(ENDINGS)}
    return found


def _raise(error: OSError) -> None:
    raise error


def unreadable(path: Path, error: Exception) -> ManifestError:
    """Return the error for a file that pyarrow could not open or read, which says what it is instead."""
    if isinstance(error, FileNotFoundError):
        return ManifestError(f"{path}: expected a Parquet file, found no such file; check the path")
    if described := describe_format(path):
        return ManifestError(f"{path}: expected a readable Parquet file, found {described[0]}; {described[1]}")
    return ManifestError(f"{path}: expected a readable Parquet file, found: {first_line(error)}; write the file again")
