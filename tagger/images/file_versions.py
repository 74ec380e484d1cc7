"""Which version of an image a reference leads to, found without reading it."""

from __future__ import annotations

import hashlib
import os
import stat
import struct
import time
from itertools import chain

from tagger.core.types import ImagePolicy, ImageRef
from tagger.core.urls import is_remote_image
from tagger.images.spellings import NO_SUCH_FILE, spellings

SETTLED_NS = 2_000_000_000  # a file changed more recently may change again and keep its times: clocks of disks are coarse


class FileVersions:
    """Names an image that lies somewhere, and the version of it that is there now, in few bytes.

    A local file's name is its path, however a reference spells it, and holds the folders that may be read: what was read under
    one policy is not known under another. A remote image has the version b"": its server is asked when it is fetched, under the
    policy of that moment.
    """

    def __init__(self, policy: ImagePolicy) -> None:
        self._roots = [os.path.join(root, "") for root in policy.roots]  # noqa: PTH118  # strings, for speed
        self._name = hashlib.blake2b("\0".join(self._roots).encode("utf-8", "surrogateescape"), digest_size=16)

    def __call__(self, ref: ImageRef) -> tuple[bytes, bytes] | None:
        """Return name and version; None for what has to be read to be known: no file inside the folders, a link, one just
        changed."""
        if ref.data is not None or ref.path is None:
            return None
        if is_remote_image(ref.path):  # hashed, for a URL may hold a signature, that is, a key to the image
            return hashlib.blake2b(ref.path.encode("utf-8", "surrogatepass"), digest_size=16).digest(), b""
        if not self._roots:
            return None
        for name in chain([ref.path], spellings(ref.path)):  # the first that exists, as in sources.py
            if ".." in name:
                return None
            path = name if name[:1] == "/" else self._roots[0] + name
            try:
                found = os.lstat(path)
            except OSError as error:
                if error.errno in NO_SUCH_FILE:
                    continue
                return None
            except ValueError:
                return None
            return self._version(path, found) if path.startswith(tuple(self._roots)) else None
        return None

    def _version(self, path: str, found: os.stat_result) -> tuple[bytes, bytes] | None:
        if not stat.S_ISREG(found.st_mode) or found.st_ctime_ns > time.time_ns() - SETTLED_NS:
            return None
        name = self._name.copy()
        name.update(b"\0" + path.encode("utf-8", "surrogateescape"))
        return name.digest(), struct.pack("<4q", found.st_size, found.st_mtime_ns, found.st_ctime_ns, found.st_ino)
