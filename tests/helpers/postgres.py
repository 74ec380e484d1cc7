"""A PostgreSQL server of our own, on a Unix socket in a temporary folder."""

from __future__ import annotations

import getpass
import os
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from itertools import count
from pathlib import Path

import psycopg

TESTING = ("fsync=off", "shared_buffers=32MB")
BINARIES = Path("/usr/lib/postgresql")  # Debian keeps them out of PATH


class Postgres:
    """A server whose socket is in `folder`, and who may do everything in it: `user`."""

    def __init__(self, folder: Path, user: str) -> None:
        self.folder, self._user, self._numbers = folder, user, count()

    @classmethod
    @contextmanager
    def started(cls, settings: Sequence[str] = ()) -> Iterator[Postgres]:
        """Start a server, and end it and remove its files. It refuses to run as root, so there it runs as `postgres`."""
        programs = next(iter(sorted(BINARIES.glob("*/bin"), reverse=True)), None) or Path(shutil.which("postgres") or "").parent
        as_user = ["runuser", "-u", "postgres", "--"] if os.geteuid() == 0 else []
        user = "postgres" if as_user else getpass.getuser()
        # A socket's path must be short, and every user must be able to reach it.
        with tempfile.TemporaryDirectory(prefix="pg-", ignore_cleanup_errors=True) as place:
            folder = Path(place)
            if as_user:
                shutil.chown(folder, user)
            files = folder / "data"
            quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL, "cwd": "/", "check": True}
            made = [programs / "initdb", "-D", files, "-U", user, "-A", "trust", "--no-sync", "-E", "UTF8", "--locale=C"]
            subprocess.run([*as_user, *made], **quiet)  # type: ignore[call-overload]
            options = f"-k {folder} -c listen_addresses='' {' '.join(f'-c {one}' for one in settings or TESTING)}"
            control = [*as_user, programs / "pg_ctl", "-D", files, "-w"]
            subprocess.run([*control, "-o", options, "-l", folder / "log", "start"], **quiet)  # type: ignore[call-overload]
            try:
                yield cls(folder, user)
            finally:
                with suppress(subprocess.CalledProcessError):
                    subprocess.run([*control, "-m", "immediate", "stop"], **quiet)  # type: ignore[call-overload]

    def new_database(self) -> str:
        """Make an empty database and return its URL."""
        name = f"tagger{next(self._numbers)}"
        with psycopg.connect(self._url("postgres"), autocommit=True) as db:
            db.execute(f"CREATE DATABASE {name} TEMPLATE template0")
        return self._url(name)

    def kill(self) -> None:
        """Kill the server and all of its connections."""
        process = int((self.folder / "data" / "postmaster.pid").read_text().splitlines()[0])
        os.kill(process, signal.SIGQUIT)

    def _url(self, database: str) -> str:
        return f"postgresql:///{database}?host={self.folder}&user={self._user}"
