"""Shards on this machine: one process that encodes, and worker processes that read and decode ahead of it."""

from __future__ import annotations

import hashlib
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import partial
from itertools import groupby, repeat

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from torch import Tensor

from tagger.catalog.manifest import Manifest, Shard, image_refs
from tagger.catalog.retry import error_rows, merge_tags
from tagger.catalog.tags import tag_columns
from tagger.core.types import ImageBatch, ImagePolicy, ImageRef
from tagger.encoders.embedding_cache import EmbeddingCache
from tagger.images.file_versions import FileVersions
from tagger.images.resilient_loader import load_images
from tagger.images.workers import start_method
from tagger.inference.embedding_stream import Arrival, EmbeddingStream
from tagger.inference.fallback_stream import SecondOpinion
from tagger.inference.hybrid import Fallback
from tagger.inference.predictor import Embeddings, Predictor
from tagger.inference.shard_state import OpenShard
from tagger.inference.timings import Stages

OPEN_SHARDS = 4  # that may wait for a full piece of the encoder, their tables and embeddings in memory


class LocalEngine:
    """Tags shards with this machine.

    policy: which images may be read. batch_size: how many are read together. workers: processes that decode. second: a
    fallback, with the cache of its embeddings. verify_content: read every image, whether it seems unchanged or not. stages:
    filled in while it runs.
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
        second: SecondOpinion | None = None,
    ) -> None:
        self.stages = Stages()
        self.second = second
        self.predictor, self.cache, self._batch_size = predictor, cache, batch_size
        self._verify_content, self._versions = verify_content, FileVersions(policy)
        self._stream = EmbeddingStream(predictor, cache)
        encoders = [predictor.encoder, *([second.fallback.second.encoder] if second else [])]
        self.workers = workers
        self._load = partial(
            load_images,
            policy=policy,
            preprocessings=[encoder.preprocessing for encoder in encoders],
            workers=workers,
            start_method=start_method(),
        )

    @property
    def fallback(self) -> Fallback | None:
        return None if self.second is None else self.second.fallback

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
        opened = self._open(manifest, shards, earlier, all_rows)
        for shard in self._complete(opened, advance):
            yield shard.shard, _close(shard, schema, self)

    def embed(
        self,
        manifest: Manifest,
        shards: Sequence[Shard],
        advance: Callable[[int], object],
        choose: Callable[[pa.Table], NDArray[np.int64]],
    ) -> Iterator[OpenShard]:
        """The embeddings of those rows of each shard that `choose` names, ascending, from 0."""
        yield from self._complete(self._open(manifest, shards, None, choose), advance)

    def _complete(self, opened: Iterator[OpenShard], advance: Callable[[int], object]) -> Iterator[OpenShard]:
        loading: deque[OpenShard] = deque()  # by whose batches the workers are kept busy
        waiting: deque[OpenShard] = deque()  # for the encoder

        def batches() -> Iterator[list[ImageRef]]:
            # The loader takes batches ahead of the encoder; a batch never spans two shards.
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
                    self._flush()
                self._count()
                while waiting and waiting[0].is_complete():
                    shard = waiting.popleft()
                    self._commit()
                    yield shard
        finally:
            self._commit()  # a stopped run has paid for these, too

    def _flush(self) -> None:
        self._stream.flush()
        if self.second is not None:
            self._ask_second()
            self.second.stream.flush()

    def _commit(self) -> None:
        self._stream.commit()
        if self.second is not None:
            self.second.stream.commit()

    def _count(self) -> None:
        self.stages.encode, self.stages.encoded_images = self._stream.seconds, self._stream.encoded_images
        if self.second is not None:
            self.stages.fallback, self.stages.fallback_images = self.second.stream.seconds, self.second.stream.encoded_images

    def _next(self, images: Iterator[ImageBatch]) -> ImageBatch | None:
        began, recalled = time.perf_counter(), self.stages.recall
        batch = next(images, None)
        # The loader asks for references, and so for what is known of them, while it is waited for.
        self.stages.wait_for_images += time.perf_counter() - began - (self.stages.recall - recalled)
        return batch

    def _open(
        self,
        manifest: Manifest,
        shards: Sequence[Shard],
        earlier: Manifest | None,
        choose: Callable[[pa.Table], NDArray[np.int64]],
    ) -> Iterator[OpenShard]:
        """The shards, one by one, with what is known of their images without reading a file."""
        results = earlier.read(shards) if earlier else zip(shards, repeat(None))
        for (shard, table), (_, tags) in zip(manifest.read(shards), results, strict=True):
            rows = choose(table) if tags is None else error_rows(shard, table, tags, manifest.image_column)
            embeddings = np.zeros((len(table), self.predictor.encoder.dimension), self.predictor.dtype)
            current = OpenShard(shard, table, tags, rows, embeddings, np.zeros(len(table), np.bool_))
            self._recall(current, image_refs(table, manifest.image_column, shard.start))
            yield current

    def _recall(self, shard: OpenShard, refs: list[ImageRef]) -> None:
        rows = shard.rows.tolist()
        digests: dict[int, bytes] = {}
        for row in rows:
            if (data := refs[row].data) is not None:
                digests[row] = hashlib.sha256(data).digest()
            elif (file := self._versions(refs[row])) is not None:
                shard.files[row] = file
        if not self._verify_content:
            kept = self.cache.known_files([name for name, _ in shard.files.values()])
            for (row, (_, version)), (last, digest) in zip(shard.files.items(), kept, strict=True):
                if last and last == version:
                    digests[row] = digest
                elif last and not version:  # a remote one: who fetches it asks its server
                    refs[row] = replace(refs[row], version=last.decode("ascii", "replace"), digest=digest)
        found = self.cache.get(set(digests.values()))
        known = [row for row in rows if digests.get(row, b"") in found]
        for row in known:
            shard.embeddings[row] = found[digests[row]]
        lacking = set[int]()  # the fallback's
        if self.second is None:
            shard.settled[known] = True
        elif known:
            lacking = set(self.second.recall(shard, known, [digests[row] for row in known]))
        done = set(known) - lacking
        shard.loading = {row: replace(refs[row], decode=True) if row in lacking else refs[row] for row in rows if row not in done}
        shard.to_load = len(shard.loading)

    def _take(self, batch: ImageBatch, shard: OpenShard) -> None:
        """Send a batch's images to the encoder, unless their embeddings are there by now."""
        start = shard.shard.start
        self.stages.read += batch.busy.read
        self.stages.decode += batch.busy.decode
        self.stages.errors += len(batch.errors)
        for manifest_row, error in batch.errors.items():
            row = manifest_row - start
            shard.errors[row] = error
            del shard.loading[row]
        for manifest_row, digest, pixels in zip(batch.rows.tolist(), batch.digests, zip(*batch.pixels, strict=True), strict=True):
            row = manifest_row - start
            arrived = self._arrival(shard, row, digest, pixels[-1])
            if not self._stream.find(digest, arrived):
                self._stream.encode(digest, pixels[0], arrived)
            self._remember(shard, row, digest, batch.versions.get(manifest_row))
        gone: list[ImageRef] = []
        for manifest_row, digest in batch.known.items():
            row = manifest_row - start
            if self._stream.find(digest, self._arrival(shard, row, digest, None)):
                self._remember(shard, row, digest, batch.versions.get(manifest_row))
            else:  # evicted, or the cache was damaged, since the decoding process asked
                gone.append(shard.loading[row])
        if gone:
            for images in self._load([gone], known=()):
                self._take(images, shard)
        self._ask_second()

    def _arrival(self, shard: OpenShard, row: int, digest: bytes, pixels: Tensor | None) -> Arrival:
        """What is to happen when the row's embedding arrives; `pixels` are those for the fallback."""
        ref = shard.loading[row]

        def arrived(embedding: Embeddings) -> None:
            shard.embeddings[row] = embedding
            if self.second is None:
                shard.settle(row)
            else:
                self.second.add(shard, row, ref, digest, pixels, embedding)

        return arrived

    def _ask_second(self) -> None:
        """Show those rows to the fallback whose embeddings have arrived, and that need it."""
        if self.second is None:
            return
        # What the first encoder's cache knew was not decoded.
        for _, candidates in groupby(self.second.send(), lambda candidate: candidate.shard.shard.number):
            again = {}
            for candidate in candidates:
                shard = candidate.shard
                again[candidate.row] = replace(candidate.ref, decode=True)
            shard.loading |= again
            for images in self._load([list(again.values())], known=()):
                self._take(images, shard)

    def _remember(self, shard: OpenShard, row: int, digest: bytes, told: str | None) -> None:
        """`told`: the version that came with the bytes from their server."""
        ref = shard.loading.pop(row)
        name, version = shard.files.get(row, (b"", b""))
        if told:
            self._stream.remember_file(name, told.encode(), digest)
        elif version and self._versions(ref) == (name, version):  # else it was changed while it was read
            self._stream.remember_file(name, version, digest)


def all_rows(table: pa.Table) -> NDArray[np.int64]:
    return np.arange(len(table))


def _close(shard: OpenShard, schema: pa.Schema, engine: LocalEngine) -> pa.Table:
    tagged, predictor = shard.tagged(), engine.predictor
    if (fallback := engine.fallback) is None:
        decisions = predictor.decide(shard.embeddings[tagged])
    else:
        seconds = shard.second_embeddings(fallback.second.encoder.dimension, fallback.second.dtype)
        decisions = fallback.decide(shard.embeddings[tagged], seconds, shard.shown())
    named = {
        attribute.name: (attribute.label_names, decision)
        for attribute, decision in zip(predictor.attributes, decisions, strict=True)
    }
    columns = tag_columns(len(shard.table), tagged, named, shard.errors)
    if shard.earlier is not None:
        columns = merge_tags(shard.earlier, columns, schema.names[-len(columns) :], shard.rows)
    return pa.table([*shard.table.columns, *columns], schema=schema)
