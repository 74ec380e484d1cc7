"""Make one schema of those of a manifest's files."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa

from tagger.core.errors import ManifestError


def require_same_columns(first_path: Path, first: pa.Schema, path: Path, other: pa.Schema) -> None:
    """Require a file to have the columns of the first. Raises ManifestError."""
    if other.equals(first):
        return
    for mine, theirs in zip(first, other, strict=False):
        if not theirs.equals(mine):
            found = f"{theirs.name} {theirs.type} instead of {mine.name} {mine.type}"
            break
    else:
        found = f"{len(other)} columns instead of {len(first)}"
    raise ManifestError(f"{path}: expected the columns of {first_path}, found {found}; write both with one schema")
