"""Shards on this machine: one process that encodes, and worker processes that read and decode ahead of it."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import repeat

import numpy as np
import pyarrow as pa

from tagger.catalog.earlier import error_rows, merge_tags
from tagger.catalog.manifest import Manifest, Shard, image_refs
from tagger.catalog.tags import tag_columns
from tagger.engines.workers import start_method
from tagger.errors import ImageError
from tagger.images.survival import load_images
from tagger.predictor import Predictor
from tagger.types import Decision, ImagePolicy, ImageRef, join_decisions


@dataclass
class Stages:
    """Seconds that the main process spent waiting for images and encoding them; images encoded, and images with errors."""

    wait_for_images: float = 0.0
    encode: float = 0.0
    encoded_images: int = 0
    errors: int = 0


@dataclass
class _Open:
    """A shard whose images are on their way."""

    shard: Shard
    table: pa.Table
    earlier: pa.Table | None
    rows: np.ndarray  # to tag, from 0
    tagged: list[np.ndarray] = field(default_factory=list)
    decisions: list[list[Decision]] = field(default_factory=list)
    errors: dict[int, ImageError] = field(default_factory=dict)
    done: int = 0


def tag_shards(
    manifest: Manifest,
    schema: pa.Schema,
    predictor: Predictor,
    policy: ImagePolicy,
    batch_size: int,
    workers: int,
    shards: Sequence[Shard],
    stages: Stages,
    advance: Callable[[int], object],
    earlier: Manifest | None = None,
) -> Iterator[tuple[Shard, pa.Table]]:
    """Tag these shards, in order: their rows with the tag columns appended. Few are in memory at a time.

    schema: the result's. batch_size: images that are read together. workers: processes that decode. stages: where seconds and
    images are added up. advance: called with the number of rows of every batch that is done. earlier: a result of these rows,
    of which only those with an error are tagged. Raises ManifestError if it is one of other rows.
    """
    open_shards: deque[_Open] = deque()

    def batches() -> Iterator[list[ImageRef]]:
        # The loader takes batches ahead of the encoder; a batch never spans two shards.
        tables = earlier.read(shards) if earlier else zip(shards, repeat(None))
        for (shard, table), (_, tags) in zip(manifest.read(shards), tables, strict=True):
            column = manifest.image_column
            rows = np.arange(len(table)) if tags is None else error_rows(shard, table, tags, column)
            open_shards.append(_Open(shard, table, tags, rows))
            refs = image_refs(table, column, shard.start)
            # At least one batch, be it empty: it is by its batches that a shard is seen to be done.
            for start in range(0, max(len(rows), 1), batch_size):
                yield [refs[row] for row in rows[start : start + batch_size]]

    images = load_images(
        batches(),
        policy=policy,
        preprocessing=predictor.encoder.preprocessing,
        workers=workers,
        start_method=start_method(),
        pin_memory=predictor.encoder.device.type == "cuda",
    )
    while True:
        began = time.perf_counter()
        batch = next(images, None)
        if batch is None:
            return
        arrived = time.perf_counter()
        current = open_shards[0]
        current.errors |= {row - current.shard.start: error for row, error in batch.errors.items()}
        if len(batch.rows):
            current.tagged.append(batch.rows - current.shard.start)
            current.decisions.append(predictor.predict(batch))
            stages.encoded_images += len(batch.rows)
        rows_done = len(batch.rows) + len(batch.errors)
        current.done += rows_done
        stages.errors += len(batch.errors)
        advance(rows_done)
        stages.wait_for_images += arrived - began
        stages.encode += time.perf_counter() - arrived
        if current.done == len(current.rows):
            advance(len(current.table) - current.done)
            open_shards.popleft()
            yield current.shard, _close(current, schema, predictor)


def _close(shard: _Open, schema: pa.Schema, predictor: Predictor) -> pa.Table:
    rows = len(shard.table)
    tagged = np.concatenate([np.empty(0, np.int64), *shard.tagged])
    decisions = {
        attribute.name: (attribute.label_names, join_decisions([batch[index] for batch in shard.decisions]))
        for index, attribute in enumerate(predictor.attributes)
    }
    columns = tag_columns(rows, tagged, decisions, shard.errors)
    if shard.earlier is not None:
        columns = merge_tags(shard.earlier, columns, schema.names[-len(columns) :], shard.rows)
    return pa.table([*shard.table.columns, *columns], schema=schema)
