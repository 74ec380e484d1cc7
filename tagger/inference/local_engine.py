"""Shards on this machine: one process that encodes, and worker processes that read and decode ahead of it."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import replace
from itertools import chain
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from tagger.cache.embedding_cache import Embedding, EmbeddingCache
from tagger.catalog.manifest import Manifest, Shard
from tagger.catalog.retry import merge_tags
from tagger.catalog.schemas import EMBEDDINGS_KEY
from tagger.catalog.tags import tag_columns
from tagger.core.moments import Moments
from tagger.core.types import ImageBatch, ImagePolicy, Preprocessing
from tagger.images.reading import Reading
from tagger.inference.bad_images import BadImages
from tagger.inference.embedding_stream import Arrival, EmbeddingStream
from tagger.inference.fallback_stream import Candidate, FallbackStream
from tagger.inference.file_memory import FileMemory
from tagger.inference.hybrid import Hybrid
from tagger.inference.predictor import Predictor
from tagger.inference.recall import Recall
from tagger.inference.shard_state import OpenShard, ShardQueue
from tagger.inference.timings import Stages

if TYPE_CHECKING:  # a night that encodes nothing waits for no torch
    from torch import Tensor

    TakePixels = Callable[[NDArray[np.int64], Mapping[str, Tensor]], object]  # rows (N,), uint8 (N, 3, H, W) by name

OPEN_SHARDS = 4  # that may wait for a full piece of the encoder, their tables and embeddings in memory
ENCODER, FALLBACK = "encoder", "fallback"  # names of the pixels that each is given


def preprocessings_of(predictor: Predictor, hybrid: Hybrid | None) -> dict[str, Preprocessing]:
    """Return what the engine's pixels are, by name; images are decoded for the first."""
    wanted = {ENCODER: predictor.encoder.preprocessing}
    return wanted if hybrid is None else {**wanted, FALLBACK: hybrid.second.encoder.preprocessing}


class LocalEngine:
    """Tags shards with this machine.

    reading: how images are read, with preprocessings_of these models, and of others that `embed` hands out. batch_size: how
    many are read together. bad_images: what is known of those. fallback: with the cache of its embeddings. verify_content: read
    every image, whether it seems unchanged or not. stages: filled in while it runs.
    """

    def __init__(
        self,
        predictor: Predictor,
        cache: EmbeddingCache,
        reading: Reading,
        *,
        batch_size: int,
        bad_images: BadImages,
        verify_content: bool = False,
        fallback: FallbackStream | None = None,
    ) -> None:
        self.predictor, self.cache, self.stages = predictor, cache, Stages()
        self._reading, self._batch_size, self._verify_content = reading, batch_size, verify_content
        self._fallback, self._stream = fallback, EmbeddingStream(predictor, cache)
        self._files = FileMemory(self._stream, reading.policy, verify_content)
        self._bad_images = bad_images
        self._recall = Recall(predictor, cache, self._files, fallback, bad_images, self.stages)

    @property
    def workers(self) -> int:
        return self._reading.workers

    @property
    def hybrid(self) -> Hybrid | None:
        return None if self._fallback is None else self._fallback.hybrid

    def with_policy(self, policy: ImagePolicy) -> LocalEngine:
        """Return an engine with the same models and caches for the images of another manifest; allowed formats are the same."""
        return LocalEngine(
            self.predictor,
            self.cache,
            replace(self._reading, policy=policy),
            batch_size=self._batch_size,
            bad_images=self._bad_images,
            verify_content=self._verify_content,
            fallback=self._fallback,
        )

    def tag(
        self,
        manifest: Manifest,
        schema: pa.Schema,
        shards: Iterable[Shard],
        advance: Callable[[int], object],
        earlier: Manifest | None = None,
    ) -> Iterator[tuple[Shard, pa.Table, NDArray[np.float16]]]:
        """Tag these shards, in ascending order: their rows with the tag columns appended, and the sketches of their images.

        Few are in memory at a time. The sketches are float16 (N, SKETCH), NaN for a row without an embedding.

        schema: the result's. advance: called with the number of rows that were read or recalled. earlier: a result of these
        rows, of which only those with an error are tagged. Raises ManifestError if it is one of other rows.
        """
        for shard in self._complete(self._recall.open(manifest, shards, earlier), advance):
            yield shard.shard, self._close(shard, schema), shard.sketches()

    def embed(
        self,
        manifest: Manifest,
        rows: NDArray[np.int64],
        advance: Callable[[int], object],
        take_pixels: TakePixels | None = None,
    ) -> Iterator[OpenShard]:
        """Yield the shards that have these rows of the manifest, ascending, with the embeddings of these rows alone.

        advance: called with the number of these rows that were read or recalled. take_pixels: called, in order, with the rows
        that can be read and their pixels; for it, they are decoded even if their embeddings are known.
        """
        shards = [shard for shard in manifest.shards() if np.searchsorted(rows, shard.start) < np.searchsorted(rows, shard.stop)]
        opened = self._recall.open(manifest, shards, rows=rows, decode_all=take_pixels is not None)
        yield from self._complete(opened, advance, take_pixels)

    def _complete(
        self, opened: Iterator[OpenShard], advance: Callable[[int], object], take_pixels: TakePixels | None = None
    ) -> Iterator[OpenShard]:
        def done(shard: OpenShard) -> OpenShard:
            advance(shard.recalled)
            self._commit()
            return shard

        def completed() -> Iterator[OpenShard]:
            self._count()
            yield from map(done, queue.completed())

        try:
            # Decoding processes start at the first shard that has something for them.
            for shard in opened:
                if shard.loading:
                    opened = chain([shard], opened)
                    break
                yield done(shard)
            else:
                return
            from tagger.images.resilient_loader import load_images  # and torch, which takes seconds to import

            queue = ShardQueue(opened, self._batch_size)
            reading = replace(self._reading, known=self.cache.known())
            # A second time for images only that turn out to be needed after the loader has asked for its last batch.
            while True:
                for batch in self._timed(load_images(queue.batches(), reading)):
                    shard, again = queue.arrived()
                    self._take(batch, shard, queue)
                    if take_pixels is not None and len(batch.rows):
                        take_pixels(batch.rows, batch.pixels)
                    if not again:
                        advance(len(batch.rows) + len(batch.errors) + len(batch.known))
                    if queue.is_stuck(OPEN_SHARDS):
                        self._flush(queue)
                    yield from completed()
                self._flush(queue)
                yield from completed()
                if queue.is_empty():
                    return
        finally:
            self._commit()  # a stopped run has paid for these, too

    def _flush(self, queue: ShardQueue) -> None:
        self._stream.flush()
        if self._fallback is not None:
            self._ask_fallback(queue)
            self._fallback.stream.flush()

    def _commit(self) -> None:
        self._bad_images.commit()
        self._stream.commit()
        if self._fallback is not None:
            self._fallback.stream.commit()

    def _count(self) -> None:
        self.stages.encode, self.stages.encoded_images = self._stream.seconds, self._stream.encoded_images
        if self._fallback is not None:
            stream = self._fallback.stream
            self.stages.fallback, self.stages.fallback_images = stream.seconds, stream.encoded_images

    def _timed(self, images: Iterator[ImageBatch]) -> Iterator[ImageBatch]:
        while True:
            began, recalled = time.perf_counter(), self.stages.recall
            batch = next(images, None)
            # The loader asks for references, and so for what is known of them, while it is waited for.
            self.stages.wait_for_images += time.perf_counter() - began - (self.stages.recall - recalled)
            if batch is None:
                return
            yield batch

    def _take(self, batch: ImageBatch, shard: OpenShard, queue: ShardQueue) -> None:
        """Send a batch's images to the encoder, unless their embeddings are there by now."""
        start = shard.shard.start
        self.stages.read += batch.busy.read
        self.stages.decode += batch.busy.decode
        self.stages.errors += len(batch.errors)
        for manifest_row, error in batch.errors.items():
            row = manifest_row - start
            shard.errors[row] = error
            if digest := batch.refused.get(manifest_row):
                self._bad_images.note(digest, error)
                self._files.keep(shard, row, digest, batch.versions.get(manifest_row))
            else:
                del shard.loading[row]
        for number, (manifest_row, digest) in enumerate(zip(batch.rows.tolist(), batch.digests, strict=True)):
            row = manifest_row - start
            second = batch.pixels[FALLBACK][number] if self._fallback else None
            arrived = self._arrival(shard, row, digest, second)
            if not self._stream.find(digest, arrived):
                self._stream.encode(digest, batch.pixels[ENCODER][number], batch.measures[number], arrived)
            self._files.keep(shard, row, digest, batch.versions.get(manifest_row))
        for manifest_row, digest in batch.known.items():
            row = manifest_row - start
            if self._stream.find(digest, self._arrival(shard, row, digest, None)):
                self._files.keep(shard, row, digest, batch.versions.get(manifest_row))
            else:  # evicted, or the cache was damaged, since the decoding process asked
                queue.decode_again(shard, [(row, shard.loading[row])])
        self._ask_fallback(queue)

    def _arrival(self, shard: OpenShard, row: int, digest: bytes, pixels: Tensor | None) -> Arrival:
        """Return what is to happen when the row's embedding arrives; `pixels` are those for the fallback."""
        ref = shard.loading[row]

        def arrived(embedding: Embedding) -> None:
            shard.embed(row, embedding)
            if self._fallback is None:
                shard.settle(row)
            else:
                self._fallback.add(Candidate(shard, row, ref, digest, pixels, embedding))

        return arrived

    def _ask_fallback(self, queue: ShardQueue) -> None:
        """Show those rows to the fallback whose embeddings have arrived, and that it has to see."""
        if self._fallback is None:
            return
        # What the first encoder's cache knew was not decoded.
        for candidate in self._fallback.send():
            queue.decode_again(candidate.shard, [(candidate.row, candidate.ref)])

    def _close(self, shard: OpenShard, schema: pa.Schema) -> pa.Table:
        """Decide about the shard's rows and return them with the tag columns, and the embeddings' moments as metadata."""
        tagged, predictor = shard.tagged(), self.predictor
        if (hybrid := self.hybrid) is None:
            decisions = predictor.decide(shard.embeddings[tagged])
        else:
            seconds = shard.second_embeddings(hybrid.second.encoder.dimension, hybrid.second.dtype)
            decisions = hybrid.decide(shard.embeddings[tagged], seconds, shard.shown())
        named = {
            attribute.name: (attribute.label_names, decision)
            for attribute, decision in zip(predictor.attributes, decisions, strict=True)
        }
        columns = tag_columns(len(shard.table), tagged, named, shard.errors, shard.flaws(self._reading.policy.quality))
        if shard.earlier is not None:
            columns = merge_tags(shard.earlier, columns, schema.names[-len(columns) :], shard.rows)
            return pa.table([*shard.table.columns, *columns], schema=schema)
        moments = Moments.of(shard.embeddings[tagged])
        described = {**(schema.metadata or {}), EMBEDDINGS_KEY: moments.to_json()}
        return pa.table([*shard.table.columns, *columns], schema=schema.with_metadata(described))
