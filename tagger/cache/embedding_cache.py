"""The embedding cache: an image's bytes -> the embedding that an encoder gave them, so that no image is encoded twice."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import DTypeLike, NDArray

from tagger.cache.byte_cache import ByteCache
from tagger.core.types import MEASURES


class Embedding(NamedTuple):
    """What is known of an image: its vector (D,), and float32 (MEASURES,) of its picture (images/quality.py)."""

    vector: NDArray[Any]
    measures: NDArray[np.float32]


class Recalled(NamedTuple):
    """Embeddings of M images that were asked for: int64 (M,), their places in the question, ascending; vectors (M, D); float32
    (M, MEASURES)."""

    places: NDArray[np.int64]
    vectors: NDArray[Any]
    measures: NDArray[np.float32]


class EmbeddingCache(ByteCache):
    """Keep the vectors of one encoder, and the measures of the pictures.

    dimension, dtype: those of a vector. identity, limit: as a ByteCache has them.
    """

    def __init__(self, folder: Path, identity: str, *, dimension: int, dtype: DTypeLike, limit: int) -> None:
        # As `seal` stores them; fields follow each other without gaps.
        self._stored = np.dtype([("checksum", "<u4"), ("vector", dtype, (dimension,)), ("measures", np.float32, (MEASURES,))])
        super().__init__(folder, identity, limit=limit, size=self._stored.itemsize)

    def get(self, digests: Sequence[bytes]) -> Recalled:
        """Return the embeddings of those images that are in the cache. All digests are of one length."""
        places, stored = self.find_sealed(digests)
        found = np.frombuffer(b"".join(stored), self._stored)
        return Recalled(np.array(places, np.int64), found["vector"], found["measures"])

    def put(self, embeddings: Mapping[bytes, Embedding], files: Mapping[bytes, tuple[bytes, bytes]]) -> None:
        """Keep embeddings by the image's digest, and files as reference -> (version, digest), in one commit."""
        self.keep({digest: one.vector.tobytes() + one.measures.tobytes() for digest, one in embeddings.items()}, files)


def cache_folder(named: str | Path | None = None) -> Path | None:
    """Return the folder that was named, or the user's own; None where the user has no home."""
    if named is not None:
        return Path(named)
    if base := os.environ.get("XDG_CACHE_HOME"):
        return Path(base) / "tagger"
    try:
        return Path.home() / ".cache" / "tagger"
    except RuntimeError:
        return None
