"""Which version of an image a reference leads to, found without reading it."""

from __future__ import annotations

import hashlib
import os
import stat
import statistics
import struct
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import chain

from tagger.core.types import ImagePolicy
from tagger.core.urls import is_remote_image
from tagger.images.spellings import NO_SUCH_FILE, spellings

SETTLED_NS = 2_000_000_000  # a file changed more recently may change again and keep its times: clocks of disks are coarse
TRIED = 32  # files whose time tells whether to ask for others side by side
SLOW_SECONDS = 100e-6  # of a file: more than a system takes that need not ask a disk, or another machine
THREADS = 16  # which wait side by side; where nothing is waited for, they make it slower

VERSION = struct.Struct("<4q")  # size, times of change of content and of anything (ns), inode

File = tuple[bytes, bytes]  # its name and its version
ABSENT: File = (b"", b"")  # no such file


class FileVersions:
    """Names an image that lies somewhere, and the version of it that is there now, in few bytes.

    A local file's name is its path, however a reference spells it, and holds the folders that may be read: what was read under
    one policy is not known under another. A remote image has the version b"": its server is asked when it is fetched, under the
    policy of that moment. Names are 16 bytes long.
    """

    def __init__(self, policy: ImagePolicy) -> None:
        self._roots = tuple(os.path.join(root, "") for root in policy.roots)  # noqa: PTH118  # strings, for speed
        self._name = hashlib.blake2b("\0".join(self._roots).encode("utf-8", "surrogateescape"), digest_size=16)

    def of(self, references: Sequence[str | None]) -> list[File | None]:
        """Return name and version of each, as a call does; by several threads where the files lie far away."""
        settled = _settled()
        found, seconds, others = [], [0.0], references[TRIED:]
        for reference in references[:TRIED]:
            began = time.perf_counter()
            found.append(self._find(reference, settled))
            seconds.append(time.perf_counter() - began)
        if statistics.median(seconds) < SLOW_SECONDS:
            return found + [self._find(reference, settled) for reference in others]
        share = -(-len(others) // THREADS) or 1
        with ThreadPoolExecutor(THREADS) as pool:
            starts = range(0, len(others), share)
            parts = pool.map(lambda start: [self._find(one, settled) for one in others[start : start + share]], starts)
            return [*found, *chain.from_iterable(parts)]

    def __call__(self, reference: str | None) -> File | None:
        """Return name and version; ABSENT where there is no such file; None for what has to be read to be known: a link, a file
        outside the folders, one just changed."""
        return self._find(reference, _settled())

    def _find(self, reference: str | None, settled: int) -> File | None:
        if reference is None:
            return ABSENT
        if "://" in reference and is_remote_image(reference):
            # Hashed, for a URL may hold a signature, that is, a key to the image.
            return hashlib.blake2b(reference.encode("utf-8", "surrogatepass"), digest_size=16).digest(), b""
        if not self._roots:
            return None
        if (found := self._look(reference, settled)) is not ABSENT:
            return found
        others = (self._look(spelling, settled) for spelling in spellings(reference))
        return next((other for other in others if other is not ABSENT), ABSENT)  # the first that exists, as in sources.py

    def _look(self, name: str, settled: int) -> File | None:
        if ".." in name:
            return None
        path = name if name[:1] == "/" else self._roots[0] + name
        try:
            found = os.lstat(path)
        except OSError as error:
            return ABSENT if error.errno in NO_SUCH_FILE else None
        except ValueError:
            return None
        if not path.startswith(self._roots) or not stat.S_ISREG(found.st_mode) or found.st_ctime_ns > settled:
            return None
        hashed = self._name.copy()
        hashed.update(b"\0" + path.encode("utf-8", "surrogateescape"))
        return hashed.digest(), VERSION.pack(found.st_size, found.st_mtime_ns, found.st_ctime_ns, found.st_ino)


def _settled() -> int:
    """Return the time, in ns, before which a file must have been changed last to be known by its times."""
    return time.time_ns() - SETTLED_NS
