"""Profile a manifest by the few columns that matter: how it refers to its images, and how its labels are spread."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from tagger.catalog.manifest import Manifest
from tagger.catalog.references import as_text
from tagger.catalog.schemas import is_bytes, is_text
from tagger.catalog.truth import TruthReader, read_texts
from tagger.core.text import trim
from tagger.core.types import ImageRef
from tagger.core.urls import scheme_of

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

    labels: rows of each label, in the labels' order. without: rows without a truth value. folded_rows: those of `labels` whose
    value is the label but for case, space or Unicode form; other_rows: rows whose value is no label. folded, others: such values
    -> rows, for up to VALUES_KEPT of them.
    """

    labels: dict[str, int]
    without: int
    folded_rows: int
    folded: dict[str, int]
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
    reader, counts = TruthReader(labels), np.zeros(len(labels), np.int64)
    without = 0
    for texts in read_texts(manifest, column):
        without += texts.null_count
        counts += np.bincount(reader.read(texts).drop_null().to_numpy(), minlength=len(labels))
    return Balance(
        labels=dict(zip(labels, counts.tolist(), strict=True)),
        without=without,
        folded_rows=reader.folded.rows,
        folded=dict(reader.folded.counts.most_common()),
        other_rows=reader.unknown.rows,
        others=dict(reader.unknown.counts.most_common()),
    )
