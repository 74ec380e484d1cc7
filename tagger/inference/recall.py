"""Shards opened: their rows, with what is known of their images without reading a file."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from itertools import repeat, tee

import numpy as np
from numpy.typing import NDArray

from tagger.cache.embedding_cache import EmbeddingCache
from tagger.catalog.manifest import Manifest, Shard
from tagger.catalog.references import ImageRefs
from tagger.catalog.retry import error_rows
from tagger.core.types import MEASURES
from tagger.inference.bad_images import BadImages
from tagger.inference.fallback_stream import FallbackStream
from tagger.inference.file_memory import FileMemory
from tagger.inference.predictor import Predictor
from tagger.inference.shard_state import OpenShard
from tagger.inference.timings import Stages


class Recall:
    """Opens shards and settles those of their rows whose embeddings are in the caches; the others are left loading.

    stages: to which its seconds are added.
    """

    def __init__(
        self,
        predictor: Predictor,
        cache: EmbeddingCache,
        files: FileMemory,
        fallback: FallbackStream | None,
        bad_images: BadImages,
        stages: Stages,
    ) -> None:
        self._predictor, self._cache, self._files = predictor, cache, files
        self._fallback, self._bad_images, self._stages = fallback, bad_images, stages

    def open(
        self,
        manifest: Manifest,
        shards: Iterable[Shard],
        earlier: Manifest | None = None,
        rows: NDArray[np.int64] | None = None,
        decode_all: bool = False,
    ) -> Iterator[OpenShard]:
        """Yield the shards, one by one, asking for each only when it is its turn.

        rows: of the manifest, those that are wanted; default: all, or those with an error in an `earlier` result. decode_all:
        whether those are decoded whose embeddings are known, too.
        """
        wanted, again = tee(shards)
        results = earlier.read(again) if earlier else zip(again, repeat(None))
        read = zip(manifest.read(wanted), results, strict=True)
        while True:
            began = time.perf_counter()
            try:
                if (found := next(read, None)) is None:
                    return
                (shard, table), (_, tags) = found
                own = np.arange(len(table))
                if rows is not None:
                    own = rows[np.searchsorted(rows, shard.start) : np.searchsorted(rows, shard.stop)] - shard.start
                elif tags is not None:
                    own = error_rows(shard, table, tags, manifest.image_column)
                embeddings = np.zeros((len(table), self._predictor.encoder.dimension), self._predictor.dtype)
                measures, settled = np.zeros((len(table), MEASURES), np.float32), np.zeros(len(table), np.bool_)
                current = OpenShard(shard, table, tags, own, embeddings, measures, settled)
                self._settle(current, manifest.image_refs(table, shard.start), decode_all)
                current.recalled = (len(table) if rows is None else len(own)) - len(current.loading)
            finally:
                self._stages.recall += time.perf_counter() - began
            yield current

    def _settle(self, shard: OpenShard, refs: ImageRefs, decode_all: bool) -> None:
        remote = self._files.recall(shard, refs)
        decoded = set(shard.rows.tolist() if decode_all else self._take_embeddings(shard))
        unsettled = shard.rows[~shard.settled[shard.rows]].tolist()
        if shard.earlier is None:  # else they are to be tried again
            self._take_errors(shard, [row for row in unsettled if row not in decoded or decode_all])
        for row in unsettled:
            if row not in shard.errors:
                ref = remote.get(row) or refs[row]
                shard.loading[row] = replace(ref, decode=True) if row in decoded else ref
        self._stages.errors += len(shard.errors)

    def _take_errors(self, shard: OpenShard, rows: Sequence[int]) -> None:
        known = self._bad_images.find([shard.digests[row] for row in rows if shard.digests[row]])
        shard.errors |= {row: known[shard.digests[row]] for row in rows if shard.digests[row] in known}

    def _take_embeddings(self, shard: OpenShard) -> list[int]:
        """Return the rows that the fallback needs decoded, although their embeddings are there."""
        asked = [row for row in shard.rows.tolist() if shard.digests[row]]
        found = self._cache.get([shard.digests[row] for row in asked])
        known = np.array(asked, np.int64)[found.places]
        shard.embeddings[known], shard.measures[known] = found.vectors, found.measures
        if self._fallback is None:
            shard.settled[known] = True
        elif len(known):
            self._fallback.recall(shard, known)
        lacking: list[int] = known[~shard.settled[known]].tolist()
        return lacking
