"""Parquet out: shard parts that survive a crash, then one result that appears by an atomic rename.

A result that its run rejects is written aside instead, and what was at the output stays.

The protocol: every shard is written to a temporary file, flushed, re-opened and checked, and renamed to a name fixed by the
job and the shard; when all are there they are joined the same way and renamed to the result. A run that died at any moment
continues from the parts it left; parts of another job are thrown away, never mixed in. `failpoint` names the moments
between these steps, so that tests can die at each of them.
"""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path
from uuid import uuid4


def write_text(path: Path, text: str) -> None:
    """Write a small file whole or not at all."""
    write_bytes(path, text.encode())


def write_bytes(path: Path, data: bytes) -> None:
    """Write a file whole or not at all."""
    temporary = path.with_name(f"{path.name}.{uuid4().hex}.tmp")  # its own, for several processes may write the same file
    try:
        temporary.write_bytes(data)
        flush(temporary)
        temporary.replace(path)
    except BaseException:
        with suppress(OSError):
            temporary.unlink(missing_ok=True)
        raise


def flush(path: Path) -> None:
    """Wait until the file's content, or the folder's names, are on the disk."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def reason(error: Exception) -> str:
    """What the system said, and of which file, in one line."""
    said = getattr(error, "strerror", None) or str(error) or type(error).__name__
    file = getattr(error, "filename", None)
    return " ".join(f"{said}: {file}".split() if file else said.split())
