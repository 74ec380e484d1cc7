"""The fallback's embeddings, of the rows that it has to see, from the pixels that were decoded for the first encoder's."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numpy.typing import NDArray

from tagger.cache.embedding_cache import Embedding
from tagger.core.types import ImageRef
from tagger.inference.embedding_stream import EmbeddingStream
from tagger.inference.hybrid import Hybrid
from tagger.inference.predictor import Embeddings
from tagger.inference.shard_state import OpenShard

if TYPE_CHECKING:  # a night that encodes nothing waits for no torch
    from torch import Tensor


class Candidate(NamedTuple):
    """A row whose first embedding is there; `pixels` for the fallback's encoder, None where the image was not decoded."""

    shard: OpenShard
    row: int
    ref: ImageRef
    digest: bytes
    pixels: Tensor | None
    embedding: Embedding


class FallbackStream:
    """Sends those rows on to the fallback's encoder, by its stream, that it has to see, and settles all others.

    show_all: whether it sees every row, instead of those alone that the hybrid's rule shows it.
    """

    def __init__(self, hybrid: Hybrid, stream: EmbeddingStream, show_all: bool = False) -> None:
        self.hybrid, self.stream, self._show_all = hybrid, stream, show_all
        self._candidates: list[Candidate] = []

    def add(self, candidate: Candidate) -> None:
        """Take a row, until `send` is called."""
        self._candidates.append(candidate)

    def send(self) -> list[Candidate]:
        """Send on or settle the rows that were added since the last time; return those that have to be decoded after all."""
        candidates, self._candidates = self._candidates, []
        if not candidates:
            return []
        lacking = []
        wanted = self._wanted(np.stack([candidate.embedding.vector for candidate in candidates]))
        for candidate, needed in zip(candidates, wanted.tolist(), strict=True):
            arrived: Callable[[Embedding], object] = partial(candidate.shard.settle, candidate.row)
            if not needed:
                candidate.shard.settle(candidate.row)
            elif not self.stream.find(candidate.digest, arrived):
                if candidate.pixels is None:
                    lacking.append(candidate)
                else:
                    self.stream.encode(candidate.digest, candidate.pixels, candidate.embedding.measures, arrived)
        return lacking

    def recall(self, shard: OpenShard, rows: NDArray[np.int64]) -> None:
        """Settle those of the rows, int64 (N,), whose first embeddings are there, that need no image."""
        wanted = self._wanted(shard.embeddings[rows])
        shard.settled[rows[~wanted]] = True
        asked = rows[wanted].tolist()
        found = self.stream.cache.get([shard.digests[row] for row in asked])
        for place, *embedding in zip(found.places.tolist(), found.vectors, found.measures, strict=True):
            shard.settle(asked[place], Embedding(*embedding))

    def _wanted(self, embeddings: Embeddings) -> NDArray[np.bool_]:
        return np.ones(len(embeddings), np.bool_) if self._show_all else self.hybrid.wanted(embeddings)
