"""Shards on this machine: one process that encodes, and worker processes that read and decode ahead of it."""

from __future__ import annotations

import hashlib
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from itertools import repeat
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from tagger.catalog.earlier import error_rows, merge_tags
from tagger.catalog.manifest import Manifest, Shard, image_refs
from tagger.catalog.tags import tag_columns
from tagger.encoders.cache import EmbeddingCache
from tagger.engines.embedding import EmbeddingStream
from tagger.engines.workers import start_method
from tagger.errors import ImageError
from tagger.images.survival import load_images
from tagger.images.versions import FileVersions
from tagger.predictor import Predictor
from tagger.types import ImageBatch, ImagePolicy, ImageRef

OPEN_SHARDS = 4  # that may wait for a full piece of the encoder, their tables and embeddings in memory


@dataclass
class Stages:
    """What a run's time went into, and what came of it.

    read, decode: seconds of work on images, added up over the processes that share it; recall (reading the manifest, and what
    is known of its images), encode, wait_for_images: of the main process. Images encoded, and images with errors.
    """

    recall: float = 0.0
    read: float = 0.0
    decode: float = 0.0
    encode: float = 0.0
    wait_for_images: float = 0.0
    encoded_images: int = 0
    errors: int = 0

    def seconds(self) -> dict[str, float]:
        return {name: getattr(self, name) for name in ("recall", "read", "decode", "wait_for_images", "encode")}

    def busy(self, workers: int) -> dict[str, float]:
        """Seconds that each stage worked, of those that it had."""
        return {"recall": self.recall, "decoder": (self.read + self.decode) / max(workers, 1), "encoder": self.encode}


@dataclass
class _Open:
    """A shard on its way; rows are counted from its first."""

    shard: Shard
    table: pa.Table
    earlier: pa.Table | None
    rows: NDArray[np.int64]  # to tag
    embeddings: NDArray[Any]  # (len(table), D)
    embedded: NDArray[np.bool_]
    errors: dict[int, ImageError] = field(default_factory=dict)
    loading: dict[int, ImageRef] = field(default_factory=dict)  # which no batch has brought yet
    files: dict[int, tuple[bytes, bytes]] = field(default_factory=dict)  # row -> name and version, before anything was read
    to_load: int = 0

    def place(self, row: int, embedding: NDArray[Any]) -> None:
        self.embeddings[row], self.embedded[row] = embedding, True

    def is_complete(self) -> bool:
        return int(self.embedded.sum()) + len(self.errors) == len(self.rows)


class LocalEngine:
    """Tags shards with this machine.

    policy: which images may be read. batch_size: how many are read together. workers: processes that decode. verify_content:
    read every file, whether it seems unchanged or not. stages: filled in while it runs.
    """

    def __init__(
        self,
        predictor: Predictor,
        cache: EmbeddingCache,
        policy: ImagePolicy,
        *,
        batch_size: int,
        workers: int,
        verify_content: bool = False,
    ) -> None:
        self.stages = Stages()
        self.predictor, self.cache, self._batch_size = predictor, cache, batch_size
        self._verify_content, self._versions = verify_content, FileVersions(policy)
        self._stream = EmbeddingStream(predictor, cache)
        self._load = partial(
            load_images,
            policy=policy,
            preprocessing=predictor.encoder.preprocessing,
            workers=workers,
            start_method=start_method(),
        )

    def tag(
        self,
        manifest: Manifest,
        schema: pa.Schema,
        shards: Sequence[Shard],
        advance: Callable[[int], object],
        earlier: Manifest | None = None,
    ) -> Iterator[tuple[Shard, pa.Table]]:
        """Tag these shards, in order: their rows with the tag columns appended. Few are in memory at a time.

        schema: the result's. advance: called with the number of rows that were read or recalled. earlier: a result of these
        rows, of which only those with an error are tagged. Raises ManifestError if it is one of other rows.
        """
        loading: deque[_Open] = deque()  # by whose batches the workers are kept busy
        waiting: deque[_Open] = deque()  # for the encoder

        def batches() -> Iterator[list[ImageRef]]:
            # The loader takes batches ahead of the encoder; a batch never spans two shards.
            opened = self._open(manifest, shards, earlier)
            while True:
                began = time.perf_counter()
                shard = next(opened, None)
                self.stages.recall += time.perf_counter() - began
                if shard is None:
                    return
                loading.append(shard)
                refs = list(shard.loading.values())
                # At least one batch, be it empty: it is by its batches that a shard is seen to be done.
                for start in range(0, max(len(refs), 1), self._batch_size):
                    yield refs[start : start + self._batch_size]

        images = self._load(batches(), known=self.cache.known())
        batch: ImageBatch | None = None
        try:
            while (batch := self._next(images)) or loading or waiting:
                if batch is not None:
                    shard = loading[0]
                    self._take(batch, shard)
                    advance(len(batch.rows) + len(batch.errors) + len(batch.known))
                    if not shard.loading:
                        advance(len(shard.table) - shard.to_load)
                        waiting.append(loading.popleft())
                if batch is None or len(waiting) > OPEN_SHARDS:
                    self._stream.flush()
                self.stages.encode, self.stages.encoded_images = self._stream.seconds, self._stream.encoded_images
                while waiting and waiting[0].is_complete():
                    shard = waiting.popleft()
                    self._stream.commit()
                    yield shard.shard, _close(shard, schema, self.predictor)
        finally:
            self._stream.commit()  # a stopped run has paid for these, too

    def _next(self, images: Iterator[ImageBatch]) -> ImageBatch | None:
        began, recalled = time.perf_counter(), self.stages.recall
        batch = next(images, None)
        # The loader asks for references, and so for what is known of them, while it is waited for.
        self.stages.wait_for_images += time.perf_counter() - began - (self.stages.recall - recalled)
        return batch

    def _open(self, manifest: Manifest, shards: Sequence[Shard], earlier: Manifest | None) -> Iterator[_Open]:
        """The shards, one by one, with what is known of their images without reading a file."""
        results = earlier.read(shards) if earlier else zip(shards, repeat(None))
        for (shard, table), (_, tags) in zip(manifest.read(shards), results, strict=True):
            rows = np.arange(len(table)) if tags is None else error_rows(shard, table, tags, manifest.image_column)
            embeddings = np.zeros((len(table), self.predictor.encoder.dimension), self.predictor.dtype)
            current = _Open(shard, table, tags, rows, embeddings, np.zeros(len(table), np.bool_))
            self._recall(current, image_refs(table, manifest.image_column, shard.start))
            yield current

    def _recall(self, shard: _Open, refs: Sequence[ImageRef]) -> None:
        rows = shard.rows.tolist()
        digests: dict[int, bytes] = {}
        for row in rows:
            if (data := refs[row].data) is not None:
                digests[row] = hashlib.sha256(data).digest()
            elif (file := self._versions(refs[row])) is not None:
                shard.files[row] = file
        if not self._verify_content:
            known = self.cache.known_files(shard.files.values())
            digests |= {row: digest for row, digest in zip(shard.files, known, strict=True) if digest is not None}
        found = self.cache.get(set(digests.values()))
        for row in rows:
            embedding = found.get(digests.get(row, b""))
            if embedding is None:
                shard.loading[row] = refs[row]
            else:
                shard.place(row, embedding)
        shard.to_load = len(shard.loading)

    def _take(self, batch: ImageBatch, shard: _Open) -> None:
        """Send a batch's images to the encoder, unless their embeddings are there by now."""
        start = shard.shard.start
        self.stages.read += batch.busy.read
        self.stages.decode += batch.busy.decode
        self.stages.errors += len(batch.errors)
        for manifest_row, error in batch.errors.items():
            row = manifest_row - start
            shard.errors[row] = error
            del shard.loading[row]
        for manifest_row, digest, pixels in zip(batch.rows.tolist(), batch.digests, batch.pixels, strict=True):
            row = manifest_row - start
            arrived = partial(shard.place, row)
            if not self._stream.find(digest, arrived):
                self._stream.encode(digest, pixels, arrived)
            self._remember(shard, row, digest)
        gone: list[ImageRef] = []
        for manifest_row, digest in batch.known.items():
            row = manifest_row - start
            if self._stream.find(digest, partial(shard.place, row)):
                self._remember(shard, row, digest)
            else:  # evicted, or the cache was damaged, since the decoding process asked
                gone.append(shard.loading[row])
        if gone:
            for images in self._load([gone], known=()):
                self._take(images, shard)

    def _remember(self, shard: _Open, row: int, digest: bytes) -> None:
        ref = shard.loading.pop(row)
        file = shard.files.get(row)
        if file is not None and self._versions(ref) == file:  # else it was changed while it was read
            self._stream.remember_file(*file, digest)


def _close(shard: _Open, schema: pa.Schema, predictor: Predictor) -> pa.Table:
    tagged = np.flatnonzero(shard.embedded)
    decisions = predictor.decide(shard.embeddings[tagged])
    named = {
        attribute.name: (attribute.label_names, decision)
        for attribute, decision in zip(predictor.attributes, decisions, strict=True)
    }
    columns = tag_columns(len(shard.table), tagged, named, shard.errors)
    if shard.earlier is not None:
        columns = merge_tags(shard.earlier, columns, schema.names[-len(columns) :], shard.rows)
    return pa.table([*shard.table.columns, *columns], schema=schema)
