"""Find the files that a manifest's name means: one, those of a folder, or those that match a glob."""

from __future__ import annotations

import glob
from pathlib import Path

from tagger.core.errors import ManifestError
from tagger.core.text import first_line


def find_files(name: str) -> tuple[Path, ...]:
    """Return the files that `name` means, in order: one, those of a folder, or those that match a glob. Raises ManifestError."""
    path = Path(name)
    if path.is_file():
        return (path,)
    if path.is_dir():
        found = sorted(file for file in path.glob("*.parquet") if not file.name.startswith((".", "_")))
    else:
        found = sorted(Path(match) for match in glob.glob(name) if Path(match).is_file())  # noqa: PTH207  # a Path has no absolute glob
    if found:
        return tuple(found)
    if path.is_dir():
        raise ManifestError(f"{name}: expected Parquet files in this folder, found no *.parquet; name the manifest file")
    raise ManifestError(f"{name}: expected a Parquet file, a folder of them or a glob, found none; check the path")


def unreadable(path: Path, error: Exception) -> ManifestError:
    """Return the error for a file that pyarrow could not open or read."""
    if isinstance(error, FileNotFoundError):
        return ManifestError(f"{path}: expected a Parquet file, found no such file; check the path")
    return ManifestError(f"{path}: expected a readable Parquet file, found: {first_line(error)}; write the file again")
