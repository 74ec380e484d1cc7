"""Images that cannot be decoded, known by their bytes, so that no process is started to find it out each night."""

from __future__ import annotations

from collections.abc import Sequence

from tagger.cache.byte_cache import ByteCache
from tagger.core.errors import ImageError

ANY_TEXT = "surrogatepass"  # a decoder may say anything


class BadImages:
    """Knows errors that are in an image's bytes, not those of one that came late, or that took too much memory.

    cache: where they are kept; None: nowhere.
    """

    def __init__(self, cache: ByteCache | None = None) -> None:
        self._cache = cache
        self._new: dict[bytes, bytes] = {}

    def find(self, digests: Sequence[bytes]) -> dict[bytes, ImageError]:
        """Return the errors that are known, by digest."""
        found = self._cache.find(digests) if self._cache is not None else {}
        return {digest: ImageError(*kept.decode("utf-8", ANY_TEXT).split("\0", 1)) for digest, kept in found.items()}

    def note(self, digest: bytes, error: ImageError) -> None:
        """Keep, from the next commit on, why these bytes are no image."""
        self._new[digest] = f"{error.code}\0{error.message}".encode("utf-8", ANY_TEXT)

    def commit(self) -> None:
        """Write new errors to the cache."""
        if self._cache is not None:
            self._cache.keep(self._new)
        self._new = {}
