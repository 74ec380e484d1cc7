"""One run at a time on a result: who comes second is told who is there."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import filelock

from tagger.core.errors import StoppedError
from tagger.core.files import write_text


@contextmanager
def hold(folder: Path) -> Iterator[None]:
    """Hold the run folder's lock, which the system drops with the process; StoppedError if another run has it."""
    owner = folder / "lock.owner"
    try:
        with filelock.FileLock(folder / "lock", timeout=0):
            write_text(owner, f"process {os.getpid()} on {socket.gethostname()}")
            yield
    except filelock.Timeout as error:
        who = "another process"
        with suppress(OSError, ValueError):
            who = owner.read_text(encoding="utf-8")
        raise StoppedError(f"{folder}: expected no other run on this result, found {who}; run again when it has ended") from error
