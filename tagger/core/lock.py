"""Keep two runs off one result: the second is told who is there."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import filelock

from tagger.core.errors import StoppedError
from tagger.core.files import stopped_by_disk, write_text


@contextmanager
def hold(folder: Path) -> Iterator[None]:
    """Hold the run folder's lock, which the system drops with the process. Raises StoppedError if another run holds it."""
    lock, owner = filelock.FileLock(folder / "lock", timeout=0), folder / "lock.owner"
    with stopped_by_disk(folder):
        try:
            held = lock.acquire()
        except filelock.Timeout as error:
            who = "another process"
            with suppress(OSError, ValueError):
                who = owner.read_text(encoding="utf-8")
            raise StoppedError(
                f"{folder}: expected no other run on this result, found {who}; run again when it has ended"
            ) from error
    with held:  # outside of the try: a Timeout that the run itself raises is not about this lock
        with stopped_by_disk(folder):
            write_text(owner, f"process {os.getpid()} on {socket.gethostname()}")
        yield
