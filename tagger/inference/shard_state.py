"""Shards on their way: what is known of their rows, what they wait for, and the batches in which their images are read."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from tagger.cache.embedding_cache import Embedding
from tagger.catalog.manifest import Shard
from tagger.core.errors import ImageError
from tagger.core.types import ImageRef, QualityLimits
from tagger.encoders.sketch import SKETCH, sketch
from tagger.images.quality import find_flaws


@dataclass
class OpenShard:
    """A shard whose rows, counted from its first, each end settled or with an error.

    rows: those to tag or embed. embeddings: (len(table), D). seconds: row -> the fallback's embedding, of those that it has to
    see. measures: float32 (len(table), MEASURES), of the pictures (images/quality.py).
    """

    shard: Shard
    table: pa.Table
    earlier: pa.Table | None
    rows: NDArray[np.int64]
    embeddings: NDArray[Any]
    measures: NDArray[np.float32]
    settled: NDArray[np.bool_]
    seconds: dict[int, NDArray[Any]] = field(default_factory=dict)
    errors: dict[int, ImageError] = field(default_factory=dict)
    loading: dict[int, ImageRef] = field(default_factory=dict)  # which no batch has brought yet
    digests: list[bytes] = field(init=False)  # SHA-256 of each row's image, b"" while it is not known
    files: dict[int, tuple[bytes, bytes]] = field(default_factory=dict)  # row -> name and version, before it was read
    recalled: int = 0  # of the rows that are counted, those that no batch brings

    def __post_init__(self) -> None:
        self.digests = [b""] * len(self.table)

    def embed(self, row: int, embedding: Embedding) -> None:
        """Take the row's embedding and its picture's measures."""
        self.embeddings[row] = embedding.vector
        self.measures[row] = embedding.measures

    def settle(self, row: int, second: Embedding | None = None) -> None:
        """Note that the row has all its embeddings; `second` is the fallback's, where it has to see the row."""
        if second is not None:
            self.seconds[row] = second.vector
        self.settled[row] = True

    def flaws(self, limits: QualityLimits) -> dict[int, str]:
        """Return why pictures can be none of a product, by row, of the tagged rows."""
        tagged = self.tagged()
        return {int(tagged[number]): flaw for number, flaw in find_flaws(self.measures[tagged], limits).items()}

    def is_complete(self) -> bool:
        """Return whether no row waits for anything."""
        return int(self.settled.sum()) + len(self.errors) == len(self.rows)

    def tagged(self) -> NDArray[np.int64]:
        """Return int64, the rows that have embeddings, ascending."""
        return np.flatnonzero(self.settled)

    def shown(self) -> NDArray[np.bool_]:
        """Return bool, for each tagged row whether the fallback has seen it."""
        return np.isin(self.tagged(), list(self.seconds))

    def sketches(self) -> NDArray[np.float16]:
        """Return float16 (len(table), SKETCH), NaN for a row without an embedding."""
        tagged = self.tagged()
        sketches = np.full((len(self.table), SKETCH), np.nan, np.float16)
        sketches[tagged] = sketch(self.embeddings[tagged])
        return sketches

    def second_embeddings(self, dimension: int, dtype: np.dtype[Any]) -> NDArray[Any]:
        """Return (M, dimension), of the rows that were shown to the fallback, in order."""
        return np.stack([np.empty(dimension, dtype), *(self.seconds[row] for row in sorted(self.seconds))])[1:]


class Sent(NamedTuple):
    """A batch that the loader has taken: whose it is, and whether its rows have been in a batch before."""

    shard: OpenShard
    again: bool


class ShardQueue:
    """Cuts the shards into batches for one loader, and knows whose each batch is that comes back.

    A batch never spans two shards. Images that have to be decoded after all go first, so that the shards they belong to are
    done, and out of memory, soon.
    """

    def __init__(self, opened: Iterator[OpenShard], batch_size: int) -> None:
        self._opened, self._batch_size = opened, batch_size
        self._again: deque[tuple[OpenShard, ImageRef]] = deque()
        self._sent: deque[Sent] = deque()
        self._shards: deque[OpenShard] = deque()

    def batches(self) -> Iterator[list[ImageRef]]:
        """Yield batches, each shard opened when its first is asked for; ends when there is nothing more to ask for now."""
        while True:
            yield from self._repeated()
            if (shard := next(self._opened, None)) is None:
                return
            self._shards.append(shard)
            refs = list(shard.loading.values())
            # At least one batch, be it empty, so that shards are not opened faster than they are done.
            for start in range(0, max(len(refs), 1), self._batch_size):
                yield from self._repeated()
                self._sent.append(Sent(shard, again=False))
                yield refs[start : start + self._batch_size]

    def decode_again(self, shard: OpenShard, refs: Iterable[tuple[int, ImageRef]]) -> None:
        """Queue rows, with their references, of images that a batch has brought without pixels."""
        for row, ref in refs:
            shard.loading[row] = replace(ref, decode=True)
            self._again.append((shard, shard.loading[row]))

    def arrived(self) -> Sent:
        """Return what the batch is that the loader has just brought; it brings them in the order in which it took them."""
        return self._sent.popleft()

    def is_empty(self) -> bool:
        """Return whether no shard is open."""
        return not self._shards

    def is_stuck(self, most: int) -> bool:
        """Return whether the first shard waits for an encoder, and more than `most` others with it."""
        coming = {sent.shard.shard.number for sent in self._sent}
        waiting = [shard for shard in self._shards if not shard.loading and shard.shard.number not in coming]
        return len(waiting) > most and waiting[0] is self._shards[0]

    def completed(self) -> Iterator[OpenShard]:
        """Yield those shards that are complete, up to the first that is not."""
        while self._shards and self._shards[0].is_complete():
            yield self._shards.popleft()

    def _repeated(self) -> Iterator[list[ImageRef]]:
        while self._again:
            shard = self._again[0][0]
            refs: list[ImageRef] = []
            while self._again and self._again[0][0] is shard and len(refs) < self._batch_size:
                refs.append(self._again.popleft()[1])
            self._sent.append(Sent(shard, again=True))
            yield refs
