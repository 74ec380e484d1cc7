"""Profile a manifest by the few columns that matter: how it refers to its images, and how its labels are spread."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from tagger.catalog.manifest import Manifest
from tagger.catalog.references import as_text
from tagger.catalog.schemas import is_bytes, is_text
from tagger.core.text import trim
from tagger.core.types import ImageRef
from tagger.core.urls import scheme_of

OTHERS_KEPT = 100  # different values that are no labels
EMBEDDED, PATHS = "embedded images", "paths"


@dataclass(frozen=True, kw_only=True)
class References:
    """Counts how a manifest refers to its images.

    kinds: rows of each kind: paths, embedded images, "https://" and the like. nulls: rows without an image, or with a blank
    path. repeated: rows whose path or URL an earlier row has, too.
    """

    kinds: dict[str, int]
    nulls: int
    repeated: int


@dataclass(frozen=True, kw_only=True)
class Balance:
    """Counts the rows of each truth value.

    labels: rows of each label, in the labels' order. without: rows without a truth value. other_rows: rows whose value is no
    label. others: such values -> rows, for up to OTHERS_KEPT of them.
    """

    labels: dict[str, int]
    without: int
    other_rows: int
    others: dict[str, int]


def read_references(manifest: Manifest, count: int) -> tuple[References, list[ImageRef]]:
    """Read the image column once; return what it holds, and up to `count` of its references, drawn evenly."""
    drawn = np.unique(np.linspace(0, manifest.rows - 1, min(count, manifest.rows)).astype(np.int64))
    kinds, refs, hashes = Counter[str](), list[ImageRef](), list[np.ndarray]()
    row = 0
    for part in manifest.column(manifest.image_column):
        embedded, paths = _split(part, manifest.has_binary_paths)
        kinds[EMBEDDED] += embedded
        kinds.update(_kind(path) for path in paths)
        hashes.append(np.fromiter(map(hash, paths), np.int64, len(paths)))
        for place in drawn[(drawn >= row) & (drawn < row + len(part))].tolist():
            one = pa.table({manifest.image_column: part.slice(place - row, 1)})
            refs += manifest.image_refs(one, place)
        row += len(part)
    texts = np.concatenate([np.empty(0, np.int64), *hashes])
    found = References(kinds=dict((+kinds).most_common()), nulls=row - kinds.total(), repeated=len(texts) - len(np.unique(texts)))
    return found, refs


def _split(part: pa.Array, binary_paths: bool) -> tuple[int, list[str]]:
    """Return how many images this part of the column holds, and the paths and URLs of the others that have one."""
    if is_bytes(part.type):
        if not binary_paths:
            return len(part) - part.null_count, []
        texts = [as_text(value) for value in part.to_pylist() if value is not None]
        return texts.count(None), _filled(texts)
    if is_text(part.type):
        return 0, _filled(part.to_pylist())
    data, paths = (pc.struct_field(part, [name]) for name in ("bytes", "path"))
    return len(data) - data.null_count, _filled(paths.filter(data.is_null()).to_pylist())


def _filled(paths: list[str | None]) -> list[str]:
    return [path for path in paths if path is not None and trim(path)]


def _kind(path: str) -> str:
    return f"{scheme}://" if (scheme := scheme_of(trim(path))) else PATHS


def read_balance(manifest: Manifest, column: str, labels: Sequence[str]) -> Balance:
    """Read a truth column once and count its values."""
    known, others = dict.fromkeys(labels, 0), Counter[str]()
    without = other_rows = 0
    for value, count in _counts(manifest.column(column)):
        if value is None:
            without += count
        elif value in known:
            known[value] += count
        else:
            other_rows += count
            if value in others or len(others) < OTHERS_KEPT:
                others[value] += count
    return Balance(labels=known, without=without, other_rows=other_rows, others=dict(others.most_common()))


def _counts(parts: Iterator[pa.Array]) -> Iterator[tuple[str | None, int]]:
    for part in parts:
        for item in pc.cast(part, pa.string()).value_counts().to_pylist():
            yield item["values"], item["counts"]
