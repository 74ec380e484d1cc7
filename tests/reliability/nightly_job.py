"""Start jobs/nightly.sh in a folder as an operator has it; its runs are forks of this process (harness.py).

nightly.sh starts ask_for_run.py as TAGGER, which asks this process over a socket.
"""

from __future__ import annotations

import ctypes
import errno
import json
import os
import signal
import socket
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import closing, suppress
from pathlib import Path
from select import select
from typing import NamedTuple

from changing_catalogue import Catalogue, sha256
from harness import start, wait

NIGHTLY = Path(__file__).parents[2] / "jobs" / "nightly.sh"
ASK = Path(__file__).with_name("ask_for_run.py")
FULL_FROM = 12  # the I/O call in tonight's folder from which on the disk is full: while the part is written


class Started(NamedTuple):
    """Hold a start of nightly.sh, the run that it asked for and who waits for its exit code; None if it asked for none."""

    script: subprocess.Popen[bytes]
    run: int | None = None
    asking: socket.socket | None = None

    def finish(self) -> int:
        """Wait for all of it; return the exit code of nightly.sh, negative for the signal that ended it."""
        if self.run is not None and self.asking is not None:
            code = wait(self.run)
            with closing(self.asking), suppress(BrokenPipeError):  # who asked may have been killed, too
                self.asking.send(str(code).encode())
        return self.script.wait()


class Job:
    """Run nights in a folder. `catalogue` is what is tagged every night; `log` has the messages of nightly.sh and its runs."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.nights, self.log = folder, folder / "nights", folder / "nightly.log"
        self.catalogue = Catalogue(folder / "catalogue")
        self._tagger, address = folder / "tagger", str(folder / "socket")
        self._environment = {"TAGGER": str(self._tagger), "MONTH_SOCKET": address, "XDG_CACHE_HOME": str(folder / "cache")}
        self._tagger.write_text(f'#!/bin/sh\nexec "{sys.executable}" -IS "{ASK}" "$@"\n')
        self._tagger.chmod(0o755)
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._socket.bind(address)
        self._socket.listen()

    def run(self, night: str, how: str = "once", keep: int = 30) -> tuple[int, ...]:
        """Run a night; return the exit codes of its starts."""
        if how == "tagger killed":
            return self._once(night, keep, TAGGER_FAILPOINT="part-flushed"), self._once(night, keep)
        if how == "all killed":
            return self._kill(night, keep), self._once(night, keep)
        if how == "disk full":
            return self._start(night, keep, before=lambda: self._fill_disk(night)).finish(), self._once(night, keep)
        if how == "twice":
            first = self._start(night, keep)
            second = self._once(night, keep)
            return first.finish(), second
        return (self._once(night, keep),)

    def tagger(self, *command: str) -> str:
        """Run a command of tagger outside nightly.sh; return its stdout."""
        folder = self.folder / "beside"
        folder.mkdir(exist_ok=True)
        if code := wait(start(folder, list(command))):
            sys.exit(f"tagger {' '.join(command)}: exit code {code}: {(folder / 'stderr').read_text()}")
        return (folder / "stdout").read_text()

    def embeddings(self) -> int:
        """Return how many embeddings the cache holds: one for each picture and model that were used together."""
        file = self.folder / "cache" / "tagger" / "embeddings.sqlite"
        if not file.exists():
            return 0
        with closing(sqlite3.connect(file)) as cache:
            of_images = "SELECT id FROM encoders WHERE identity LIKE '{%'"  # and not of prompts, or what else is kept
            return int(cache.execute(f"SELECT count(*) FROM embeddings WHERE encoder IN ({of_images})").fetchone()[0])

    def published(self) -> tuple[str, str]:
        """Return where `current` leads, and the hash of the bytes there."""
        current = self.nights / "current"
        return (str(current.readlink()), sha256(current / "tagged.parquet")) if current.exists() else ("", "")

    def _once(self, night: str, keep: int, **environment: str) -> int:
        return self._start(night, keep, **environment).finish()

    def _start(self, night: str, keep: int, before: Callable[[], None] = lambda: None, **environment: str) -> Started:
        """Start a night; `before` is called in the run's process."""
        settings = {"NIGHT": night, "KEEP": str(keep), "MANIFEST": str(self.catalogue.manifest)}
        with self.log.open("ab") as log:
            script = subprocess.Popen(
                [NIGHTLY, "--workers", "0"],
                cwd=self.folder,
                env=os.environ | self._environment | settings | environment,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        while not select([self._socket], [], [], 0.005)[0]:
            if script.poll() is not None:
                return Started(script)
        asking, _ = self._socket.accept()
        data, handles, _, _ = socket.recv_fds(asking, 1 << 20, 3)
        asked = json.loads(data)

        def begin() -> None:
            for own, given in zip((1, 2), handles, strict=False):  # the third, the lock, need only be open
                os.dup2(given, own)
            before()

        run = start(Path(asked["folder"]), asked["command"], asked["environment"], before=begin)
        for handle in handles:
            os.close(handle)
        return Started(script, run, asking)

    def _kill(self, night: str, keep: int) -> int:
        """Kill script and run as soon as the run writes a message."""
        started = self._start(night, keep)
        assert started.run is not None
        while not (self.nights / night / "tagged.run" / "log.jsonl").exists():
            time.sleep(0.001)
        os.killpg(started.script.pid, signal.SIGKILL)
        os.kill(started.run, signal.SIGKILL)
        return started.finish()

    def _fill_disk(self, night: str) -> None:
        ctypes.CDLL(None).fail_io_arm(str(self.nights / night).encode(), ctypes.c_long(FULL_FROM), errno.ENOSPC, 1)
