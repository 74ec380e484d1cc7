"""The file of the embedding cache: an SQLite database of our tables, opened, kept small, and its entries sealed."""

from __future__ import annotations

import sqlite3
import zlib
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

FILE = "embeddings.sqlite"
APPLICATION = 0x74616772  # "tagr", how the file says whose it is
VERSION = 1  # of the tables
BUSY_SECONDS = 30.0  # how long to wait for another run's commit
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
    try:  # around BEGIN and COMMIT as well: a stop may come right after the one, or before the other
        db.execute(begin)
        yield db
        db.execute("COMMIT")
    except BaseException:
        if db.in_transaction:
            with suppress(sqlite3.Error):
                db.execute("ROLLBACK")
        raise


def seal(digest: bytes, data: bytes) -> bytes:
    """Return an entry's bytes as they are stored: behind a checksum of the image's digest and of themselves."""
    return zlib.crc32(data, zlib.crc32(digest)).to_bytes(4, "little") + data


def unseal(stored: bytes) -> bytes:
    """Return what was sealed, of an entry that `is_whole`."""
    return stored[4:]


def is_whole(digest: bytes, stored: object, size: int = 0) -> bool:
    """Return whether a stored entry is this image's, and undamaged; `size`: bytes that it must have, if it is known."""
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
