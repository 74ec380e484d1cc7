"""Where models, and what is known of images and prompts, are kept."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import NamedTuple

from tagger.encoders.byte_cache import ByteCache
from tagger.encoders.embedding_cache import cache_folder
from tagger.settings.schema import CacheSettings


class Store(NamedTuple):
    """folder: None for this run only. limit: bytes of the embedding cache, the file in which all is that has a digest."""

    folder: Path | None = None
    limit: int = 0

    @contextmanager
    def open(self, identity: str) -> Iterator[ByteCache | None]:
        """Open what is kept under this identity; None without a folder."""
        if self.folder is None:
            yield None
            return
        with closing(ByteCache(self.folder, identity, limit=self.limit)) as cache:
            yield cache


def store_of(settings: CacheSettings) -> Store:
    """Return the place that the settings name."""
    return Store(cache_folder(settings.folder) if settings.enabled else None, int(settings.max_gb * 1e9))
