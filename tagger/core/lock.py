"""Keep two runs off one result: the second is told who is there."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import filelock

from tagger.core.errors import StoppedError
from tagger.core.files import write_text, writing


@contextmanager
def hold(folder: Path) -> Iterator[None]:
    """Hold the run folder's lock, which the system drops with the process. Raises StoppedError if another run holds it."""
    lock, owner = filelock.FileLock(folder / "lock", timeout=0), folder / "lock.owner"
    with writing(folder):
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
        with writing(folder):
            write_text(owner, f"process {os.getpid()} on {socket.gethostname()}")
        yield
