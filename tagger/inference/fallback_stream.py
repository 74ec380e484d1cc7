"""The fallback's embeddings, of the rows that it has to see, from the pixels that were decoded for the first encoder's."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import NamedTuple

import numpy as np
from torch import Tensor

from tagger.core.types import ImageRef
from tagger.inference.embedding_stream import EmbeddingStream
from tagger.inference.hybrid import Fallback
from tagger.inference.predictor import Embeddings
from tagger.inference.shard_state import OpenShard


class Candidate(NamedTuple):
    """A row whose first embedding is there; `pixels` for the fallback's encoder, None where the image was not decoded."""

    shard: OpenShard
    row: int
    ref: ImageRef
    digest: bytes
    pixels: Tensor | None
    embedding: Embeddings


class SecondOpinion:
    """Sends those rows on to the fallback's encoder, by its stream, that need it, and settles all others."""

    def __init__(self, fallback: Fallback, stream: EmbeddingStream) -> None:
        self.fallback, self.stream = fallback, stream
        self._candidates: list[Candidate] = []

    def add(self, shard: OpenShard, row: int, ref: ImageRef, digest: bytes, pixels: Tensor | None, embedding: Embeddings) -> None:
        self._candidates.append(Candidate(shard, row, ref, digest, pixels, embedding))

    def send(self) -> list[Candidate]:
        """Of all rows that were added since the last time; returns those that have to be decoded for it after all."""
        candidates, self._candidates = self._candidates, []
        if not candidates:
            return []
        lacking = []
        wanted = self.fallback.wanted(np.stack([candidate.embedding for candidate in candidates]))
        for candidate, needed in zip(candidates, wanted.tolist(), strict=True):
            arrived: Callable[[Embeddings], object] = partial(candidate.shard.settle, candidate.row)
            if not needed:
                candidate.shard.settle(candidate.row)
            elif not self.stream.find(candidate.digest, arrived):
                if candidate.pixels is None:
                    lacking.append(candidate)
                else:
                    self.stream.encode(candidate.digest, candidate.pixels, arrived)
        return lacking

    def recall(self, shard: OpenShard, rows: Sequence[int], digests: Sequence[bytes]) -> list[int]:
        """Settle those of the rows, whose first embeddings are there, that can be; returns the others, which lack an image."""
        wanted = self.fallback.wanted(shard.embeddings[list(rows)])
        found = self.stream.cache.get({digest for digest, needed in zip(digests, wanted, strict=True) if needed})
        lacking = []
        for row, digest, needed in zip(rows, digests, wanted.tolist(), strict=True):
            if not needed or digest in found:
                shard.settle(row, found[digest] if needed else None)
            else:
                lacking.append(row)
        return lacking
