"""Where models, and what is known of images and prompts, are kept."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, NamedTuple

from numpy.typing import DTypeLike

from tagger.cache.byte_cache import ByteCache
from tagger.cache.embedding_cache import EmbeddingCache, cache_folder
from tagger.core.files import writing
from tagger.settings.schema import CacheSettings

if TYPE_CHECKING:  # psycopg need not be there
    from tagger.cache.shared_cache import SharedServer


class Store(NamedTuple):
    """folder: None for this run only. limit: bytes of the embedding cache, the file in which all is that has a digest. url: of
    the database that keeps the embeddings of images instead; all else stays in the folder (cache/shared_cache.py)."""

    folder: Path | None = None
    limit: int = 0
    url: str | None = None

    @contextmanager
    def open(self, identity: str) -> Iterator[ByteCache | None]:
        """Open what is kept under this identity; None without a folder."""
        if self.folder is None:
            yield None
            return
        with closing(ByteCache(self.folder, identity, limit=self.limit)) as cache:
            yield cache

    @contextmanager
    def open_server(self) -> Iterator[SharedServer | None]:
        """Connect to the database of embeddings; None without one."""
        if self.url is None:
            yield None
            return
        from tagger.cache.shared_cache import SharedServer

        with closing(SharedServer(self.url)) as server:
            yield server

    @contextmanager
    def open_embeddings(
        self, identity: str, dimension: int, dtype: DTypeLike, server: SharedServer | None = None
    ) -> Iterator[EmbeddingCache]:
        """Open the embedding cache in the folder, or on the server.

        Without a folder, what stays on this machine is in a temporary one, so that an image that comes twice in a run is encoded
        once.
        """
        with ExitStack() as stack:
            folder = self.folder
            if folder is None:
                with writing("temporary folder", "there"):
                    folder = Path(stack.enter_context(TemporaryDirectory(prefix="tagger-", ignore_cleanup_errors=True)))
            cache = _embedding_cache(server, folder, identity, dimension, dtype, self.limit)
            stack.callback(cache.close)
            yield cache


def store_of(settings: CacheSettings) -> Store:
    """Return the place that the settings name."""
    if not settings.enabled:
        return Store()
    return Store(cache_folder(settings.folder), int(settings.max_gb * 1e9), settings.url)


def _embedding_cache(
    server: SharedServer | None, folder: Path, identity: str, dimension: int, dtype: DTypeLike, limit: int
) -> EmbeddingCache:
    if server is None:
        return EmbeddingCache(folder, identity, dimension=dimension, dtype=dtype, limit=limit)
    from tagger.cache.shared_cache import SharedCache

    return SharedCache(server, folder, identity, dimension=dimension, dtype=dtype, limit=limit)
