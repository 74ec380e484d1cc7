"""What is known of an image by its bytes: a file of entries, each an image's digest -> some bytes of one kind.

One SQLite file in WAL mode (cache_file.py): readers never wait, one process writes at a time, and a process that dies leaves
what it has committed. Every entry carries a checksum of itself and of its image's digest. A damaged file is made anew; a full
disk or a lock that another process does not release costs the cache, never the run.
"""

from __future__ import annotations

import json
import logging
import sqlite3
import time
from collections.abc import Callable, Container, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from types import MappingProxyType
from typing import TypeVar

from tagger.cache.cache_file import (
    BUSY_SECONDS,
    ELSEWHERE,
    FILE,
    connect,
    evict,
    is_whole,
    remove_files,
    seal,
    transaction,
    unseal,
)
from tagger.core.text import first_line

log = logging.getLogger(__name__)

USE_DAYS = 7  # the day of an entry's last use is noted this coarsely: noting it every night would rewrite the file

# One statement looks up all keys, in less than half the time of a statement for each. They come as one blob, ?1, of ?2 keys that
# are ?3 bytes long; the rows come in the keys' order.
KEYS = "WITH RECURSIVE keys (place) AS (VALUES (0) UNION ALL SELECT place + 1 FROM keys WHERE place + 1 < ?2)"
KEY = "substr(?1, place * ?3 + 1, ?3)"
# Cast, because one flipped bit of a damaged file turns a blob into text or a number.
FIND_FILES = f"{KEYS} SELECT CAST(version AS BLOB), CAST(digest AS BLOB) FROM keys LEFT JOIN files ON reference = {KEY}"
FIND = f"{KEYS} SELECT place, id, vector FROM keys CROSS JOIN embeddings ON encoder = ?4 AND digest = {KEY}"
NOTE_USES = (
    "INSERT INTO uses SELECT value, ?2 FROM json_each(?1) WHERE true "
    "ON CONFLICT DO UPDATE SET day = excluded.day WHERE day < excluded.day - ?3"
)

NO_FILES: Mapping[bytes, tuple[bytes, bytes]] = MappingProxyType({})

_T = TypeVar("_T")


class ByteCache:
    """Keep some bytes for each image; `identity` names what they are, and all that they depend on beside the image's bytes.

    folder: where the file is, or will be. limit: bytes that the file may have after `trim`. size: of an image's bytes as `seal`
    stores them, where all have the same. No method raises: without a usable file nothing is known and nothing is kept, and one
    warning says so.
    """

    def __init__(self, folder: Path, identity: str, *, limit: int, size: int = 0) -> None:
        self.path, self._identity, self._limit, self._size = folder / FILE, identity, limit, size
        self._kind = 0
        self._used: list[int] = []
        self._db: sqlite3.Connection | None = None
        self._made_anew = False
        self._guard(self._open, None)

    def known_files(self, references: Sequence[bytes]) -> list[tuple[bytes, bytes]]:
        """Return the version and the digest that each reference was last put with; b"" and b"" for an unknown one.

        All references are of one length.
        """
        unknown = (b"", b"")

        def find() -> list[tuple[bytes, bytes]]:
            found = self._connection().execute(FIND_FILES, _keys(references)).fetchall()
            return [unknown if one[0] is None else one for one in found]

        return self._guard(find, [unknown] * len(references)) if references else []

    def find(self, digests: Sequence[bytes]) -> dict[bytes, bytes]:
        """Return what was kept, of those images of which something is there. All digests are of one length."""
        places, found = self.find_sealed(digests)
        return {digests[place]: unseal(stored) for place, stored in zip(places, found, strict=True)}

    def find_sealed(self, digests: Sequence[bytes]) -> tuple[list[int], list[bytes]]:
        """Return which of these images something is there of, ascending, and that, as `seal` stored it."""

        def find() -> tuple[list[int], list[bytes]]:
            rows = self._connection().execute(FIND, (*_keys(digests), self._kind)).fetchall()
            whole = [row for row in rows if is_whole(digests[row[0]], row[2], self._size)]
            self._used += [number for _, number, _ in whole]
            return [place for place, _, _ in whole], [stored for _, _, stored in whole]

        nothing: tuple[list[int], list[bytes]] = ([], [])
        return self._guard(find, nothing) if digests else nothing

    def keep(self, entries: Mapping[bytes, bytes], files: Mapping[bytes, tuple[bytes, bytes]] = NO_FILES) -> None:
        """Keep bytes by the image's digest, and files as reference -> (version, digest), in one commit."""

        def write() -> None:
            with transaction(self._connection()) as db:
                rows = [(self._kind, digest, seal(digest, entry)) for digest, entry in entries.items()]
                # What is there already is damaged, or another run put it first.
                there = "SELECT id FROM embeddings WHERE encoder = ? AND digest = ?"
                for table in ("uses", "embeddings"):
                    db.executemany(f"DELETE FROM {table} WHERE id = ({there})", (row[:2] for row in rows))
                db.executemany("INSERT INTO embeddings (encoder, digest, vector) VALUES (?, ?, ?)", rows)
                db.executemany("INSERT OR REPLACE INTO files VALUES (?, ?, ?)", ((key, *file) for key, file in files.items()))
                [(last,)] = db.execute("SELECT max(id) FROM embeddings")
                added = range(last - len(rows) + 1, last + 1) if rows else ()
                db.execute(NOTE_USES, (json.dumps([*self._used, *added]), int(time.time() // 86400), USE_DAYS))
            self._used.clear()

        if entries or files or self._used:
            self._guard(write, None)

    def trim(self) -> None:
        """Evict what was not used for longest, if the file has grown over its limit."""
        self._guard(lambda: evict(self._connection(), self._limit), None)

    def known(self) -> Container[bytes]:
        """Return the digests of the images of which something is kept, as a container that another process can ask."""
        return KnownImages(self.path, self._kind) if self._db is not None else ()

    def close(self) -> None:
        if self._db is not None:
            with suppress(sqlite3.Error):
                self._db.close()
            self._db = None

    def _open(self) -> None:
        self.path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._db = connect(self.path)
        with transaction(self._db) as db:
            db.execute("INSERT OR IGNORE INTO encoders (identity) VALUES (?)", [self._identity])
        [(self._kind,)] = self._db.execute("SELECT id FROM encoders WHERE identity = ?", [self._identity])

    def _connection(self) -> sqlite3.Connection:
        assert self._db is not None
        return self._db

    def _guard(self, action: Callable[[], _T], otherwise: _T) -> _T:
        if self._db is None and action != self._open:
            return otherwise
        try:
            return action()
        except (sqlite3.Error, OSError) as error:
            self.close()
            code = getattr(error, "sqlite_errorcode", None)
            if code is not None and code & 0xFF not in ELSEWHERE and not self._made_anew:
                self._made_anew = True
                log.warning("%s: damaged (%s); the embedding cache is made anew", self.path, first_line(error))
                remove_files(self.path)
                self._guard(self._open, None)
            else:
                log.warning("%s: cannot be used (%s); going on without the embedding cache", self.path, first_line(error))
            return otherwise


class KnownImages:
    """Tell, in another process, whether a cache holds something of an image; it is opened there at the first question."""

    def __init__(self, path: Path, kind: int) -> None:
        self._path, self._kind = path, kind
        self._db: sqlite3.Connection | None = None

    def __contains__(self, digest: object) -> bool:
        try:
            if self._db is None:
                self._db = sqlite3.connect(f"{self._path.resolve().as_uri()}?mode=ro", uri=True, timeout=BUSY_SECONDS)
            assert isinstance(digest, bytes)
            query = "SELECT vector FROM embeddings WHERE encoder = ? AND digest = ?"
            return any(is_whole(digest, stored) for (stored,) in self._db.execute(query, (self._kind, digest)))
        except sqlite3.Error:  # the image is decoded then; the process that owns the cache reports what is wrong with it
            return False


def _keys(keys: Sequence[bytes]) -> tuple[bytes, int, int]:
    """Return the first parameters of a statement that looks up these keys, of one length."""
    return b"".join(keys), len(keys), len(keys[0])
