"""Hold a manifest's files as they were when they were opened, wherever their names lead later.

A file that is renamed over another, or removed, leaves what was opened as it was: the rest of it is read through its
descriptor. A file that is written into is another one, and that is found out before anything is published.
"""

from __future__ import annotations

import hashlib
import os
import weakref
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import pyarrow as pa

from tagger.core.errors import StoppedError

HELD = 64  # of more files, the others are opened when they are read, and must still be the same
DESCRIPTORS = Path("/dev/fd")


class Identity(NamedTuple):
    """Which file it is, in which state."""

    device: int
    inode: int
    size: int
    mtime_ns: int


class HeldFiles:
    """The files of a manifest, opened once. Raises OSError where one cannot be."""

    def __init__(self, paths: Sequence[Path]) -> None:
        self._paths = tuple(paths)
        self._held: dict[int, int] = {}
        self._close = weakref.finalize(self, _close_all, self._held)
        found = []
        for number, path in enumerate(self._paths):
            descriptor = _open(path)
            found.append(os.fstat(descriptor))
            if number < HELD:
                self._held[number] = descriptor
            else:
                os.close(descriptor)
        self.identities = tuple(map(_identity, found))
        self._changed_ns = tuple(one.st_ctime_ns for one in found)

    def close(self) -> None:
        """Let the files go; otherwise they go with this object, which the traceback of an error may keep."""
        self._close()

    @contextmanager
    def open(self, number: int) -> Iterator[str]:
        """Lend the name under which a file can be opened. Raises StoppedError if it was changed, before or while it was read."""
        held = self._held.get(number)
        descriptor = _open(self._paths[number]) if held is None else held
        try:
            self._require_same(number, os.fstat(descriptor))
            try:
                yield str(DESCRIPTORS / str(descriptor)) if DESCRIPTORS.is_dir() else str(self._paths[number])
            except (OSError, pa.ArrowException):
                self._require_same(number, os.fstat(descriptor))  # else the file is damaged
                raise
            self._require_same(number, os.fstat(descriptor))
        finally:
            if held is None:
                os.close(descriptor)

    def digests(self) -> Iterator[bytes]:
        """Yield the SHA-256 of each file's bytes. Raises OSError, StoppedError."""
        for number in range(len(self._paths)):
            with self.open(number) as name, Path(name).open("rb") as file:
                yield hashlib.file_digest(file, "sha256").digest()

    def require_unchanged(self) -> None:
        """Raise StoppedError if a file that was read was written into since; one that its name no longer leads to was not."""
        for number, descriptor in self._held.items():
            self._require_same(number, os.fstat(descriptor))

    def is_still(self, path: Path, digest: bytes) -> bool:
        """Tell whether a name leads to the first file, as it was when it was opened; digest: the SHA-256 that it had."""
        try:
            found = path.stat()
            if _identity(found) != self.identities[0]:
                return False
            if found.st_ctime_ns == self._changed_ns[0]:
                return True
            # Something about it has changed, be it its rights, or its content and its times set back.
            with path.open("rb") as file:
                return hashlib.file_digest(file, "sha256").digest() == digest
        except OSError:
            return False

    def _require_same(self, number: int, found: os.stat_result) -> None:
        if _identity(found) != self.identities[number]:
            raise StoppedError(
                f"{self._paths[number]}: expected the file that was there when it was opened, found it changed; nothing was "
                "published; run again when it is complete"
            )


def _identity(found: os.stat_result) -> Identity:
    return Identity(found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns)


def _open(path: Path) -> int:
    return os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)  # a pipe in its place is not waited for


def _close_all(descriptors: dict[int, int]) -> None:
    for descriptor in descriptors.values():
        os.close(descriptor)
