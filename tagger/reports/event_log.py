"""Append what a run says and does to log.jsonl in its run folder, one JSON object a line, run after run."""

from __future__ import annotations

import fcntl
import logging
import os
import time
from collections.abc import Mapping
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from tagger.core.text import one_line, to_json

LOG = "log.jsonl"
PROGRESS_SECONDS = 30.0


class Journal(logging.Handler):
    """Logs one run; where the file cannot be written, the run goes on without.

    While it is open it holds a shared lock on the file, which the system drops with the process: so `is_live` can tell a run
    that was killed from one that goes on.
    """

    def __init__(self, folder: Path | None, run_id: str) -> None:
        super().__init__()
        self._run_id, self._handle, self._torn = run_id, -1, False
        self._last_progress = time.monotonic()
        if folder is None:
            return
        with suppress(OSError):
            folder.mkdir(exist_ok=True)
            self._handle = os.open(folder / LOG, os.O_RDWR | os.O_APPEND | os.O_CREAT, 0o644)
            fcntl.flock(self._handle, fcntl.LOCK_SH)
            size = os.fstat(self._handle).st_size
            self._torn = size > 0 and os.pread(self._handle, 1, size - 1) != b"\n"

    def emit(self, record: logging.LogRecord) -> None:
        """Write what the library logs."""
        self._write(record.levelname, self.format(record), {})

    def event(self, event: str, message: str, level: int = logging.INFO, **values: Any) -> None:
        """Write an event of the run: its start, its progress, its end."""
        self._write(logging.getLevelName(level), message, {"event": event, **values})

    def progress(self, rows: int, errors: int) -> None:
        """Write how far the run is, at most every PROGRESS_SECONDS."""
        if time.monotonic() - self._last_progress >= PROGRESS_SECONDS:
            self._last_progress = time.monotonic()
            self.event("progress", f"{rows} rows, {errors} errors", rows=rows, errors=errors)

    def close(self) -> None:
        super().close()
        if self._handle >= 0:
            with suppress(OSError):  # some disks say only now that they are full
                os.close(self._handle)
            self._handle = -1

    def _write(self, level: str, message: str, values: Mapping[str, Any]) -> None:
        if self._handle < 0:
            return
        now = datetime.now(UTC).isoformat(timespec="milliseconds")
        line = {"time": now, "run_id": self._run_id, "level": level, "message": one_line(message), **values}
        data = f"{to_json(line, indent=None)}\n".encode()
        if self._torn:  # the line before is not whole: the disk was full
            data = b"\n" + data
        self._torn = True
        with suppress(OSError):
            self._torn = os.write(self._handle, data) < len(data)


def is_live(log: Path) -> bool:
    """Tell whether a run is writing this log. Raises OSError.

    To look is to try for a lock that a run would refuse. Two who look at once must not refuse it to each other, so each waits
    for a lock of the folder first, which no run takes.
    """
    folder = os.open(log.parent, os.O_RDONLY)
    try:
        fcntl.flock(folder, fcntl.LOCK_EX)
        with log.open("rb") as file:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(folder)
    return False
