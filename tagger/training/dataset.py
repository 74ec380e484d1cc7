"""Labelled rows -> what is learned from: truth, embeddings and pixels, each image read by the same safe path as in a run."""

from __future__ import annotations

import logging
import math
import os
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from types import MappingProxyType

import numpy as np
import pyarrow.compute as pc
import torch
from numpy.typing import NDArray

from tagger.catalog.manifest import Manifest
from tagger.catalog.truth import TruthReader, read_texts
from tagger.core.errors import ImageError, ManifestError
from tagger.core.text import one_line
from tagger.core.types import BATCH_SIZE, ImageRef, Preprocessing
from tagger.images.reading import Reading
from tagger.images.resilient_loader import load_images
from tagger.inference.local_engine import LocalEngine
from tagger.inference.predictor import Embeddings
from tagger.settings.attributes import Attribute

STRANGERS = "strangers of "  # before an attribute's name: its truth values that are no label
RESNET18, WHOLE_PICTURE = "resnet18", "whole-picture"  # names of pixels, by what looks at them
TUNED, WHOLE = "tuned", "whole"  # those that a CLIP learns from, which it cuts, and as it wants them

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class LabelledRows:
    """A manifest's rows and what they are. truths: by attribute int64 (N,), indices of its labels, -1 where a row has none."""

    manifest: Manifest
    truths: Mapping[str, NDArray[np.int64]]

    @cached_property
    def rows(self) -> NDArray[np.int64]:
        """int64, ascending: those that have a label of any attribute."""
        return np.flatnonzero(np.max(list(self.truths.values()), axis=0) >= 0)

    def examples(self, rows: NDArray[np.int64], pixels: Mapping[str, torch.Tensor]) -> Examples:
        """Return these rows, ascending, as examples with these pixels."""
        return Examples(rows, {name: truth[rows] for name, truth in self.truths.items()}, pixels)


@dataclass(frozen=True)
class Examples:
    """Labelled rows whose images can be read.

    rows: int64 (N,), of the manifest. truths: by attribute int64 (N,), indices of its labels, -1 where a row has none. pixels: by
    name uint8 (N, 3, H, W). embeddings: the engine's, (N, D); second_embeddings: its fallback's, (N, E). digests: uint8 (N, 32),
    the SHA-256 of the images, with embeddings.
    """

    rows: NDArray[np.int64]
    truths: Mapping[str, NDArray[np.int64]]
    pixels: Mapping[str, torch.Tensor]
    embeddings: Embeddings | None = None
    second_embeddings: Embeddings | None = None
    digests: NDArray[np.uint8] | None = None

    @property
    def truth(self) -> NDArray[np.int64]:
        """int64 (N,), of the only attribute."""
        [truth] = self.truths.values()
        return truth


class LeftOut:
    """Why images cannot be read, counted, with an example of each reason."""

    def __init__(self) -> None:
        self._counts: Counter[str] = Counter()
        self._first: dict[str, ImageError] = {}

    def add(self, errors: Iterable[ImageError]) -> None:
        """Count these errors."""
        for error in errors:
            self._counts[error.code] += 1
            self._first.setdefault(error.code, error)

    def log(self) -> None:
        """Warn of them in one line, if there are any."""
        if self._counts:
            counts = "; ".join(f"{count} {code} ({self._first[code].message})" for code, count in self._counts.most_common())
            log.warning("images that cannot be read are left out: %s", one_line(counts))


def read_labelled(manifest: Manifest, attributes: Sequence[Attribute], unknown: Collection[str] = ()) -> LabelledRows:
    """Read the truth columns of these attributes, each of which has one, and log how many rows teach nothing.

    unknown: names of those whose strangers teach, too: under STRANGERS + name, numbers of the truth values that are no label.
    """
    truths = {}
    for attribute in attributes:
        assert attribute.truth_column is not None
        reader, values = TruthReader(attribute.label_names), dict[str, int]()
        parts, strange = [np.empty(0, np.int64)], [np.empty(0, np.int64)]
        for texts in read_texts(manifest, attribute.truth_column):
            found = reader.read(texts)
            parts.append(pc.fill_null(found, -1).to_numpy())
            if attribute.name in unknown:
                others = pc.if_else(pc.is_null(found), texts, None).to_pylist()
                strange.append(np.array([-1 if one is None else values.setdefault(one, len(values)) for one in others]))
        truths[attribute.name] = np.concatenate(parts)
        if attribute.name in unknown:
            truths[STRANGERS + attribute.name] = np.concatenate(strange).astype(np.int64)
        reader.log(attribute.name)
    labelled = LabelledRows(manifest, truths)
    if lacking := manifest.rows - len(labelled.rows):
        wanted = "to learn from" if unknown else "among the labels"
        log.info("%d of %d rows have no truth value %s and are left out", lacking, manifest.rows, wanted)
    return labelled


def embed(
    labelled: LabelledRows,
    engine: LocalEngine,
    advance: Callable[[int], object],
    pixels: Mapping[str, Preprocessing] = MappingProxyType({}),
    folder: Path = Path(),
) -> Examples:
    """Let the engine embed the labelled rows, leaving out those whose image cannot be read.

    pixels: names and preprocessings that the engine was opened with; they are kept in files in `folder`, from where the system
    may drop them out of memory. advance: called with numbers of rows. Raises OSError where the disk has no room.
    """
    stored, left_out = _PixelFiles(folder, len(labelled.rows), pixels), LeftOut()
    predictor, hybrid = engine.predictor, engine.hybrid
    rows = [labelled.rows[:0]]
    first = [np.empty((0, predictor.encoder.dimension), predictor.dtype)]
    digests = [b""]
    second = [np.empty((0, hybrid.second.encoder.dimension), hybrid.second.dtype)] if hybrid else []
    for shard in engine.embed(labelled.manifest, labelled.rows, advance, stored.add if pixels else None):
        left_out.add(shard.errors.values())
        rows.append(shard.tagged() + shard.shard.start)
        first.append(shard.embeddings[shard.tagged()])
        digests += [shard.digests[row] for row in shard.tagged().tolist()]
        if hybrid is not None:
            second.append(shard.second_embeddings(hybrid.second.encoder.dimension, hybrid.second.dtype))
    left_out.log()
    examples = labelled.examples(np.concatenate(rows), stored.filled())
    embeddings, others = np.concatenate(first), np.concatenate(second) if second else None
    known = np.frombuffer(b"".join(digests), np.uint8).reshape(-1, 32)
    return replace(examples, embeddings=embeddings, second_embeddings=others, digests=known)


def decode(labelled: LabelledRows, reading: Reading, advance: Callable[[int], object], folder: Path) -> Examples:
    """Decode the labelled rows without an engine, for the preprocessings of `reading`; else as `embed` does."""
    stored, left_out = _PixelFiles(folder, len(labelled.rows), reading.preprocessings), LeftOut()
    rows: list[int] = []
    for batch in load_images(_batches(labelled), reading):
        if len(batch.rows):
            stored.add(batch.rows, batch.pixels)
        rows += batch.rows.tolist()
        left_out.add(batch.errors.values())
        advance(len(batch.rows) + len(batch.errors))
    left_out.log()
    return labelled.examples(np.asarray(rows, np.int64), stored.filled())


class _PixelFiles:
    """Pixels of up to `count` images in files, one for each name."""

    def __init__(self, folder: Path, count: int, preprocessings: Mapping[str, Preprocessing]) -> None:
        self._files = {name: create_pixels(folder / f"pixels.{name}", count, one.size) for name, one in preprocessings.items()}
        self._count = 0

    def add(self, rows: NDArray[np.int64], pixels: Mapping[str, torch.Tensor]) -> None:
        """Append the pixels of these rows."""
        for name, file in self._files.items():
            file[self._count : self._count + len(rows)] = pixels[name]
        self._count += len(rows)

    def filled(self) -> dict[str, torch.Tensor]:
        """Return all that was added, by name uint8 (N, 3, H, W)."""
        return {name: file[: self._count] for name, file in self._files.items()}


def create_pixels(path: Path, count: int, size: tuple[int, int]) -> torch.Tensor:
    """Return uint8 (count, 3, H, W) in a file, whose room is taken first: to write where there is none would end the process."""
    shape = (count, 3, *size)
    with path.open("wb") as file:
        if hasattr(os, "posix_fallocate"):
            os.posix_fallocate(file.fileno(), 0, math.prod(shape))
        else:
            file.truncate(math.prod(shape))
    return torch.from_file(str(path), shared=True, size=math.prod(shape), dtype=torch.uint8).view(shape)


def require_all_labels(manifest: str, attribute: Attribute, truth: NDArray[np.int64]) -> None:
    """Raise ManifestError where a label has no row to learn from; truth: int64, -1 where a row has none."""
    counts = np.bincount(truth[truth >= 0], minlength=len(attribute.labels))
    if lacking := [label for label, count in zip(attribute.label_names, counts, strict=True) if not count]:
        raise ManifestError(
            f"{manifest}: expected readable rows of each label in column {attribute.truth_column}, found none of "
            f"{one_line(', '.join(lacking))}; add some, or leave the label out"
        )


def _batches(labelled: LabelledRows) -> Iterator[list[ImageRef]]:
    manifest, wanted = labelled.manifest, set(labelled.rows.tolist())
    for shard, table in manifest.read(manifest.shards()):
        refs = [ref for ref in manifest.image_refs(table, shard.start) if ref.row in wanted]
        for start in range(0, len(refs), BATCH_SIZE):
            yield refs[start : start + BATCH_SIZE]
