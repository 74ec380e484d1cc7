"""Write small files whole or not at all, and say in one line what the system has against it."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from uuid import uuid4

from tagger.core.errors import StoppedError


def write_text(path: Path, text: str) -> None:
    """Write a small file, in UTF-8, whole or not at all. Raises OSError."""
    write_bytes(path, text.encode())


def write_bytes(path: Path, data: bytes) -> None:
    """Write a file whole or not at all. Raises OSError."""
    with removed_on_failure(temporary_of(path)) as temporary:
        temporary.write_bytes(data)
        flush(temporary)
        temporary.replace(path)


def temporary_of(path: Path) -> Path:
    """Return a name beside the file, to write to before it is renamed; a new one each time, as several may write one file."""
    return path.with_name(f"{path.name[:40]}.{uuid4().hex}.tmp")  # cut, so that no name that the disk takes gets too long


@contextmanager
def removed_on_failure(temporary: Path) -> Iterator[Path]:
    """Lend a file to write before it is renamed, and remove it where that fails: the disk may be full."""
    try:
        yield temporary
    except BaseException:
        with suppress(OSError):
            temporary.unlink(missing_ok=True)
        raise


def note_use(path: Path) -> None:
    """Set a file's time to now, as far as that is allowed: `tagger cache prune` removes what was not used for longest."""
    with suppress(OSError):
        os.utime(path)


def flush(path: Path) -> None:
    """Wait until the file's content, or the folder's names, are on the disk."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


@contextmanager
def writing(place: Path | str, what: str = "results") -> Iterator[None]:
    """Raise StoppedError for what the system has against writing within; only while nothing is published at `place` yet."""
    try:
        yield
    except OSError as error:
        raise StoppedError(
            f"{place}: expected to write {what}, found: {reason(error)}; nothing was published; free the disk, or correct the "
            "permissions of its folder, and run again to continue"
        ) from error


def reason(error: Exception) -> str:
    """Return what the system says is wrong, and with which file, in one line."""
    found = getattr(error, "strerror", None) or str(error) or type(error).__name__
    file = getattr(error, "filename", None)
    return " ".join(f"{found}: {file}".split() if file else found.split())
