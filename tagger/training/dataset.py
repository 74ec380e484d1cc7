"""The labelled rows of a manifest, each decoded once, by the same safe path as a run's."""

from __future__ import annotations

import logging
import math
import os
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import torch
from numpy.typing import NDArray

from tagger.catalog.manifest import Manifest, image_refs
from tagger.core.errors import ImageError, ManifestError
from tagger.core.text import one_line
from tagger.core.types import BATCH_SIZE, ImageRef
from tagger.images.loader import Reading
from tagger.images.resilient_loader import load_images
from tagger.settings.attributes import Attribute

RESNET18, CLIP, WHOLE_PICTURE = "resnet18", "clip", "whole-picture"  # names of pixels, by what looks at them

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Examples:
    """Labelled rows. pixels: by the name of each preprocessing uint8 (N, 3, H, W). truth: int64 (N,), indices of the attribute's
    labels. rows: int64 (N,), of the manifest."""

    pixels: Mapping[str, torch.Tensor]
    truth: NDArray[np.int64]
    rows: NDArray[np.int64]


class LeftOut:
    """Why images cannot be read, counted, with an example of each reason."""

    def __init__(self) -> None:
        self._counts: Counter[str] = Counter()
        self._first: dict[str, ImageError] = {}

    def add(self, errors: Iterable[ImageError]) -> None:
        for error in errors:
            self._counts[error.code] += 1
            self._first.setdefault(error.code, error)

    def say(self) -> None:
        if self._counts:
            counts = "; ".join(f"{count} {code} ({self._first[code].message})" for code, count in self._counts.most_common())
            log.warning("images that cannot be read are left out: %s", one_line(counts))


def truth_of(table: pa.Table, attribute: Attribute) -> NDArray[np.int64]:
    """int64, for each row the index of its right label, -1 where it has none among the attribute's."""
    found = pc.index_in(pc.cast(table[attribute.truth_column], pa.string()), pa.array(attribute.label_names, pa.string()))
    return np.asarray(pc.fill_null(found, -1).to_numpy(), np.int64)


def load_examples(
    manifest: Manifest,
    attribute: Attribute,
    reading: Reading,
    *,
    folder: Path,
    advance: Callable[[int], object],
) -> Examples:
    """Decode the labelled rows into files in `folder`, from where the system may drop them out of memory.

    Rows without a truth value among the labels, and rows whose image cannot be read, are counted, said, and left out. Raises
    ManifestError where a label has no row, OSError where the disk has no room.
    """
    name = attribute.truth_column
    assert name is not None
    parts = (truth_of(pa.table({name: part}), attribute) for part in manifest.column(name))
    truths = np.concatenate([np.empty(0, np.int64), *parts])
    total = int((truths >= 0).sum())
    if total < len(truths):
        log.info("%d of %d rows have no truth value among the labels and are left out", len(truths) - total, len(truths))
    require_all_labels(manifest.name, attribute, truths[truths >= 0])
    stored = {name: _pixels(folder / f"pixels.{name}", total, one.size) for name, one in reading.preprocessings.items()}
    rows: list[int] = []
    left_out = LeftOut()
    for batch in load_images(_batches(manifest, truths), reading):
        for name, pixels in batch.pixels.items():
            stored[name][len(rows) : len(rows) + len(pixels)] = pixels
        rows += batch.rows.tolist()
        left_out.add(batch.errors.values())
        advance(len(batch.rows) + len(batch.errors))
    left_out.say()
    truth = truths[rows]
    require_all_labels(manifest.name, attribute, truth)
    return Examples({name: whole[: len(rows)] for name, whole in stored.items()}, truth, np.asarray(rows, np.int64))


def _pixels(path: Path, count: int, size: tuple[int, int]) -> torch.Tensor:
    """uint8 (count, 3, H, W) in a file, whose room is taken first: to write where there is none would end the process."""
    shape = (count, 3, *size)
    with path.open("wb") as file:
        if hasattr(os, "posix_fallocate"):
            os.posix_fallocate(file.fileno(), 0, math.prod(shape))
        else:
            file.truncate(math.prod(shape))
    return torch.from_file(str(path), shared=True, size=math.prod(shape), dtype=torch.uint8).view(shape)


def require_all_labels(name: str, attribute: Attribute, truth: NDArray[np.int64]) -> None:
    """ManifestError where a label has no row to learn from."""
    counts = np.bincount(truth, minlength=len(attribute.labels))
    if lacking := [label for label, count in zip(attribute.label_names, counts, strict=True) if not count]:
        raise ManifestError(
            f"{name}: expected readable rows of each label in column {attribute.truth_column}, found none of "
            f"{one_line(', '.join(lacking))}; add some, or leave the label out"
        )


def _batches(manifest: Manifest, truths: NDArray[np.int64]) -> Iterator[list[ImageRef]]:
    for shard, table in manifest.read(manifest.shards()):
        refs = image_refs(table, manifest.image_column, shard.start)
        labelled = [ref for ref in refs if truths[ref.row] >= 0]
        for start in range(0, len(labelled), BATCH_SIZE):
            yield labelled[start : start + BATCH_SIZE]
