"""A shard on its way: what is known of its rows, and what they wait for."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from tagger.catalog.manifest import Shard
from tagger.core.errors import ImageError
from tagger.core.types import ImageRef


@dataclass
class OpenShard:
    """Rows are counted from the shard's first. A row of `rows` ends settled, or with an error.

    embeddings: (len(table), D). seconds: row -> the fallback's embedding, of those that it has to see.
    """

    shard: Shard
    table: pa.Table
    earlier: pa.Table | None
    rows: NDArray[np.int64]  # to tag
    embeddings: NDArray[Any]
    settled: NDArray[np.bool_]
    seconds: dict[int, NDArray[Any]] = field(default_factory=dict)
    errors: dict[int, ImageError] = field(default_factory=dict)
    loading: dict[int, ImageRef] = field(default_factory=dict)  # which no batch has brought yet
    files: dict[int, tuple[bytes, bytes]] = field(default_factory=dict)  # row -> name and version, before it was read
    to_load: int = 0

    def settle(self, row: int, second: NDArray[Any] | None = None) -> None:
        """The row has all the embeddings that it needs; `second` is the fallback's, where it has to see the row."""
        if second is not None:
            self.seconds[row] = second
        self.settled[row] = True

    def is_complete(self) -> bool:
        return int(self.settled.sum()) + len(self.errors) == len(self.rows)

    def tagged(self) -> NDArray[np.int64]:
        """int64, the rows that have embeddings, ascending."""
        return np.flatnonzero(self.settled)

    def shown(self) -> NDArray[np.bool_]:
        """bool, for each tagged row whether the fallback has seen it."""
        return np.isin(self.tagged(), list(self.seconds))

    def second_embeddings(self, dimension: int, dtype: np.dtype[Any]) -> NDArray[Any]:
        """(M, dimension), of the rows that were shown, in order."""
        return np.stack([np.empty(dimension, dtype), *(self.seconds[row] for row in sorted(self.seconds))])[1:]
