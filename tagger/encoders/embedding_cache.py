"""The embedding cache: an image's bytes -> the embedding that an encoder gave them, so that no image is encoded twice.

One SQLite file in WAL mode: readers never wait, one process writes at a time, and a process that dies leaves what it has
committed. Every vector carries a checksum of itself and of its image's digest. A damaged file is made anew; a full disk or a
lock that another process does not release costs the cache, never the run.
"""

from __future__ import annotations

import logging
import os
import sqlite3
import time
import zlib
from collections.abc import Callable, Collection, Container, Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple, TypeVar

import numpy as np
from numpy.typing import DTypeLike, NDArray

from tagger.core.files import writing
from tagger.core.text import first_line
from tagger.core.types import MEASURES

log = logging.getLogger(__name__)

FILE = "embeddings.sqlite"
APPLICATION = 0x74616772  # "tagr", how the file says whose it is
VERSION = 1  # of the tables
BUSY_SECONDS = 30.0  # how long to wait for another run's commit
USE_DAYS = 7  # the day of a vector's last use is noted this coarsely: noting it every night would rewrite the file
KEEP = 0.9  # share of the size limit that eviction leaves

# SQLite's codes for faults of the disk, of permissions or of other processes; any other code means that the file is damaged.
ELSEWHERE = {
    *(sqlite3.SQLITE_PERM, sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED, sqlite3.SQLITE_NOMEM, sqlite3.SQLITE_READONLY),
    *(sqlite3.SQLITE_INTERRUPT, sqlite3.SQLITE_IOERR, sqlite3.SQLITE_FULL, sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_PROTOCOL),
}

TABLES = """
CREATE TABLE encoders (id INTEGER PRIMARY KEY, identity TEXT NOT NULL UNIQUE);
CREATE TABLE embeddings (id INTEGER PRIMARY KEY, encoder INTEGER NOT NULL, digest BLOB NOT NULL, vector BLOB NOT NULL);
CREATE UNIQUE INDEX embeddings_of_image ON embeddings (encoder, digest);
CREATE TABLE uses (id INTEGER PRIMARY KEY, day INTEGER NOT NULL);
CREATE TABLE files (reference BLOB PRIMARY KEY, version BLOB NOT NULL, digest BLOB NOT NULL) WITHOUT ROWID;
"""

_T = TypeVar("_T")


class Embedding(NamedTuple):
    """What is known of an image: its vector (D,), and float32 (MEASURES,) of its picture (images/quality.py)."""

    vector: NDArray[Any]
    measures: NDArray[np.float32]


class EmbeddingCache:
    """Keep the vectors of one encoder; `identity` names all that they depend on beside the image's bytes.

    folder: where the file is, or will be. dimension, dtype: those of a vector. limit: bytes that the file may have after `trim`.
    No method raises: without a usable file nothing is known and nothing is kept, and one warning says so.
    """

    def __init__(self, folder: Path, identity: str, *, dimension: int, dtype: DTypeLike, limit: int) -> None:
        self.path, self._identity, self._limit = folder / FILE, identity, limit
        self._dtype, self._dimension = np.dtype(dtype), dimension
        self._bytes = 4 + dimension * self._dtype.itemsize + 4 * MEASURES
        self._encoder = 0
        self._used: list[int] = []
        self._db: sqlite3.Connection | None = None
        self._made_anew = False
        self._guard(self._open, None)

    def known_files(self, references: Collection[bytes]) -> list[tuple[bytes, bytes]]:
        """Return the version and the digest that each reference was last put with; b"" and b"" for an unknown one."""
        unknown = (b"", b"")

        def find() -> list[tuple[bytes, bytes]]:
            # Cast, because one flipped bit of a damaged file turns a blob into text or a number.
            query = "SELECT CAST(version AS BLOB), CAST(digest AS BLOB) FROM files WHERE reference = ?"
            with transaction(self._connection(), "BEGIN") as db:
                return [db.execute(query, (reference,)).fetchone() or unknown for reference in references]

        return self._guard(find, [unknown] * len(references))

    def get(self, digests: Iterable[bytes]) -> dict[bytes, Embedding]:
        """Return the embeddings of those images that are in the cache, by digest."""

        def find() -> dict[bytes, Embedding]:
            query, found = "SELECT id, vector FROM embeddings WHERE encoder = ? AND digest = ?", dict[bytes, Embedding]()
            with transaction(self._connection(), "BEGIN") as db:
                for digest in digests:
                    for number, stored in db.execute(query, (self._encoder, digest)):
                        if is_whole(digest, stored, self._bytes):
                            vector = np.frombuffer(stored, self._dtype, self._dimension, offset=4)
                            measures = np.frombuffer(stored, np.float32, offset=4 + vector.nbytes)
                            found[digest] = Embedding(vector, measures)
                            self._used.append(number)
            return found

        return self._guard(find, {})

    def put(self, embeddings: Mapping[bytes, Embedding], files: Mapping[bytes, tuple[bytes, bytes]]) -> None:
        """Keep embeddings by the image's digest, and files as reference -> (version, digest), in one commit."""

        def write() -> None:
            with transaction(self._connection()) as db:
                rows = [(self._encoder, digest, seal(digest, embedding)) for digest, embedding in embeddings.items()]
                # A vector that is there already is damaged, or another run put it first.
                there = "SELECT id FROM embeddings WHERE encoder = ? AND digest = ?"
                for table in ("uses", "embeddings"):
                    db.executemany(f"DELETE FROM {table} WHERE id = ({there})", (row[:2] for row in rows))
                db.executemany("INSERT INTO embeddings (encoder, digest, vector) VALUES (?, ?, ?)", rows)
                db.executemany("INSERT OR REPLACE INTO files VALUES (?, ?, ?)", ((key, *file) for key, file in files.items()))
                [(last,)] = db.execute("SELECT max(id) FROM embeddings")
                added = range(last - len(rows) + 1, last + 1) if rows else ()
                db.executemany(
                    "INSERT INTO uses VALUES (?, ?) ON CONFLICT DO UPDATE SET day = excluded.day WHERE day < excluded.day - ?",
                    ((number, int(time.time() // 86400), USE_DAYS) for number in (*self._used, *added)),
                )
            self._used.clear()

        if embeddings or files or self._used:
            self._guard(write, None)

    def trim(self) -> None:
        """Evict what was not used for longest, if the file has grown over its limit."""
        self._guard(lambda: evict(self._connection(), self._limit), None)

    def known(self) -> Container[bytes]:
        """Return the digests of the images that are in the cache, as a container that another process can ask."""
        return KnownImages(self.path, self._encoder) if self._db is not None else ()

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
        [(self._encoder,)] = self._db.execute("SELECT id FROM encoders WHERE identity = ?", [self._identity])

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
    """Tell, in another process, whether an image's vector is in a cache, which is opened there at the first question."""

    def __init__(self, path: Path, encoder: int) -> None:
        self._path, self._encoder = path, encoder
        self._db: sqlite3.Connection | None = None

    def __contains__(self, digest: object) -> bool:
        try:
            if self._db is None:
                self._db = sqlite3.connect(f"{self._path.resolve().as_uri()}?mode=ro", uri=True, timeout=BUSY_SECONDS)
            assert isinstance(digest, bytes)
            query = "SELECT vector FROM embeddings WHERE encoder = ? AND digest = ?"
            return any(is_whole(digest, stored) for (stored,) in self._db.execute(query, (self._encoder, digest)))
        except sqlite3.Error:  # the image is decoded then; the process that owns the cache reports what is wrong with it
            return False


@contextmanager
def open_cache(folder: Path | None, identity: str, *, dimension: int, dtype: DTypeLike, limit: int) -> Iterator[EmbeddingCache]:
    """Open the cache in a folder; None: a temporary one, so that an image that comes twice in a run is encoded once."""
    with ExitStack() as stack:
        if folder is None:
            with writing("temporary folder", "there"):
                folder = Path(stack.enter_context(TemporaryDirectory(prefix="tagger-", ignore_cleanup_errors=True)))
        cache = EmbeddingCache(folder, identity, dimension=dimension, dtype=dtype, limit=limit)
        stack.callback(cache.close)
        yield cache


def cache_folder(named: str | Path | None = None) -> Path | None:
    """Return the folder that was named, or the user's own; None where the user has no home."""
    if named is not None:
        return Path(named)
    if base := os.environ.get("XDG_CACHE_HOME"):
        return Path(base) / "tagger"
    try:
        return Path.home() / ".cache" / "tagger"
    except RuntimeError:
        return None


def connect(path: Path) -> sqlite3.Connection:
    """Open a cache's file, or make it. sqlite3.Error; OSError for a database of another program or version."""
    db = sqlite3.connect(path, timeout=BUSY_SECONDS, isolation_level=None)
    try:
        found = [db.execute(f"PRAGMA {name}").fetchone()[0] for name in ("schema_version", "application_id", "user_version")]
        if found not in ([0, 0, 0], [found[0], APPLICATION, VERSION]):
            raise OSError("expected an embedding cache of this version of tagger, found another database")
        db.execute("PRAGMA page_size = 16384")  # this and the next take effect only before there are tables
        db.execute("PRAGMA auto_vacuum = INCREMENTAL")
        db.execute("PRAGMA cache_size = -65536")  # KiB
        db.execute("PRAGMA journal_mode = WAL")
        db.execute("PRAGMA synchronous = NORMAL")  # a power failure may cost the last commits, never the file
        with transaction(db):
            if db.execute("PRAGMA schema_version").fetchone()[0] == 0:
                for statement in filter(str.strip, TABLES.split(";")):
                    db.execute(statement)
                db.execute(f"PRAGMA application_id = {APPLICATION}")
                db.execute(f"PRAGMA user_version = {VERSION}")
    except BaseException:
        db.close()
        raise
    return db


@contextmanager
def transaction(db: sqlite3.Connection, begin: str = "BEGIN IMMEDIATE") -> Iterator[sqlite3.Connection]:
    """Write all or nothing; with "BEGIN", read everything from one state of the file."""
    db.execute(begin)
    try:
        yield db
    except BaseException:
        with suppress(sqlite3.Error):
            db.execute("ROLLBACK")
        raise
    db.execute("COMMIT")


def seal(digest: bytes, embedding: Embedding) -> bytes:
    """Return an embedding as it is stored: a checksum of the image's digest and of what follows: vector, measures."""
    data = embedding.vector.tobytes() + embedding.measures.tobytes()
    return zlib.crc32(data, zlib.crc32(digest)).to_bytes(4, "little") + data


def is_whole(digest: bytes, stored: object, size: int = 0) -> bool:
    """Return whether a stored embedding is this image's, and undamaged; `size`: bytes that it must have, if it is known."""
    if not isinstance(stored, bytes) or len(stored) < 4 or (size and len(stored) != size):
        return False
    return zlib.crc32(memoryview(stored)[4:], zlib.crc32(digest)) == int.from_bytes(stored[:4], "little")


def evict(db: sqlite3.Connection, limit: int) -> int:
    """Bring the file under `limit` bytes by removing the vectors that were not used for longest; return how many."""
    evicted = 0
    while (size := used_bytes(db)) > limit and (count := db.execute("SELECT count(*) FROM uses").fetchone()[0]):
        surplus = min(count, int(count * (1 - KEEP * limit / size)) + 1)
        with transaction(db):
            db.execute("CREATE TEMP TABLE oldest AS SELECT id FROM uses ORDER BY day, id LIMIT ?", [surplus])
            db.execute("DELETE FROM embeddings WHERE id IN oldest")
            db.execute("DELETE FROM uses WHERE id IN oldest")
            db.execute("DROP TABLE oldest")
            db.execute("DELETE FROM files WHERE digest NOT IN (SELECT digest FROM embeddings)")
        evicted += surplus
    if evicted:
        db.executescript("PRAGMA incremental_vacuum")  # execute would stop after the first page
        db.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
    return evicted


def used_bytes(db: sqlite3.Connection) -> int:
    """Return the bytes of the file that hold something."""
    pages, free, size = (db.execute(f"PRAGMA {name}").fetchone()[0] for name in ("page_count", "freelist_count", "page_size"))
    return int((pages - free) * size)


def remove_files(path: Path) -> None:
    """Remove a cache's file and SQLite's files beside it, as far as that is possible."""
    for end in ("", "-wal", "-shm"):
        with suppress(OSError):
            path.with_name(path.name + end).unlink()
