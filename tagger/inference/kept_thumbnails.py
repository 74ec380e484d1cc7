"""Small pictures of images that have not changed, without reading these again."""

from __future__ import annotations

import hashlib
import struct
from collections import deque
from collections.abc import Iterable, Iterator
from importlib.metadata import version

from tagger.cache.byte_cache import ByteCache
from tagger.cache.cache_file import FILE
from tagger.core.errors import ImageError
from tagger.core.types import ImagePolicy, ImageRef
from tagger.images.file_versions import FileVersions
from tagger.images.thumbnails import SIDE, Thumbnail, read_thumbnails
from tagger.inference.store import Store

SIZE = struct.Struct("<HH")  # width and height, before the WebP


def keep_thumbnails(
    refs: Iterable[ImageRef], policy: ImagePolicy, store: Store, *, workers: int
) -> Iterator[tuple[int, Thumbnail | ImageError]]:
    """Yield each reference's row with its picture, or why there is none, as read_thumbnails does, but in any order.

    Pictures are kept by their images' bytes, where a run has made a cache. No process is started where all of them are known: a
    file that has not changed since the run read it is not read again, a remote image always is.
    """
    if store.folder is not None and not (store.folder / FILE).is_file():
        store = Store()
    libraries = " ".join(f"{name} {version(name)}" for name in ("tagger", "pillow", "torchvision"))
    with store.open(f"thumbnails of {SIDE} pixels by {libraries}") as cache:
        if cache is None:
            yield from read_thumbnails(refs, policy, workers=workers)
        else:
            yield from _through(cache, refs, policy, workers)


def _through(
    cache: ByteCache, refs: Iterable[ImageRef], policy: ImagePolicy, workers: int
) -> Iterator[tuple[int, Thumbnail | ImageError]]:
    versions = FileVersions(policy)
    known = deque[tuple[int, Thumbnail]]()
    digests: dict[int, bytes] = {}  # of those that are read
    new: dict[bytes, bytes] = {}

    def unknown() -> Iterator[ImageRef]:
        for ref in refs:
            digest = _digest(ref, versions, cache)
            if found := cache.find([digest]) if digest else {}:
                known.append((ref.row, _parse(found[digest])))
                continue
            digests[ref.row] = digest
            yield ref

    try:
        for row, found in read_thumbnails(unknown(), policy, workers=workers):
            while known:
                yield known.popleft()
            if isinstance(found, Thumbnail) and digests[row]:
                new[digests[row]] = SIZE.pack(found.width, found.height) + found.data
            yield row, found
        yield from known
    finally:
        cache.keep(new)  # also where nobody waits for the others


def _digest(ref: ImageRef, versions: FileVersions, cache: ByteCache) -> bytes:
    """Return the SHA-256 of the image's bytes, b"" where it has to be read to be known."""
    if ref.data is not None:
        return hashlib.sha256(ref.data).digest()
    file = versions(ref.path)
    if file is None or not file[1]:
        return b""
    [(last, digest)] = cache.known_files([file[0]])
    return digest if last == file[1] else b""


def _parse(kept: bytes) -> Thumbnail:
    return Thumbnail(kept[SIZE.size :], *SIZE.unpack_from(kept))
