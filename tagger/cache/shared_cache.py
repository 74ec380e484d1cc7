"""The embedding cache of many machines: embeddings in a PostgreSQL database that all of them read and write.

What is known of files (names, times, inodes) means something on one machine only. It stays in that machine's own file
(byte_cache.py), and so do prompts, images that cannot be decoded and small pictures, which are few or quickly made. Entries are
those of the file: behind the same checksum, so that one that is damaged is not used, and is replaced when it was computed again.
A server that cannot be reached, or goes away, costs the cache, never the run.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Container, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, TypeVar

import psycopg
from numpy.typing import DTypeLike

from tagger.cache.byte_cache import NO_FILES, USE_DAYS
from tagger.cache.cache_file import is_whole, seal
from tagger.cache.embedding_cache import EmbeddingCache
from tagger.core.errors import UsageError
from tagger.core.text import first_line, one_line

log = logging.getLogger(__name__)

DAY = 86400
# A server that does not answer is given up: seconds to connect, milliseconds for a statement, and for what was sent to arrive.
CONNECT_SECONDS, STATEMENT_MS, ARRIVE_MS = 10, 60_000, 30_000
LOCK = 0x74616772  # "tagr": two machines that make the tables do it one after the other

# The day of the last use is in a table of its own, because a changed row is written anew as a whole. External: not compressed.
TABLES = """
CREATE TABLE IF NOT EXISTS tagger_encoders (
    id integer GENERATED ALWAYS AS IDENTITY PRIMARY KEY, identity text NOT NULL UNIQUE);
CREATE TABLE IF NOT EXISTS tagger_embeddings (
    id bigint GENERATED ALWAYS AS IDENTITY, encoder integer NOT NULL, digest bytea NOT NULL, vector bytea NOT NULL,
    PRIMARY KEY (encoder, digest));
ALTER TABLE tagger_embeddings ALTER COLUMN vector SET STORAGE EXTERNAL;
CREATE TABLE IF NOT EXISTS tagger_uses (id bigint PRIMARY KEY, day integer NOT NULL);
"""
FIND = "SELECT digest, id, vector FROM tagger_embeddings WHERE encoder = %s AND digest = ANY(%b)"
# In the order of digests, so that no two writers wait for each other. What differs is damaged, or was computed again.
PUT = """
WITH written AS (
    INSERT INTO tagger_embeddings (encoder, digest, vector)
    SELECT %s, digest, vector FROM unnest(%b::bytea[], %b::bytea[]) AS entries (digest, vector) ORDER BY digest
    ON CONFLICT (encoder, digest) DO UPDATE SET vector = excluded.vector WHERE tagger_embeddings.vector <> excluded.vector
    RETURNING id)
INSERT INTO tagger_uses SELECT id, %s FROM written ON CONFLICT (id) DO UPDATE SET day = excluded.day
"""
# What another writer is noting need not be noted twice.
NOTE_USES = """
UPDATE tagger_uses SET day = %(day)s WHERE id IN (
    SELECT id FROM tagger_uses WHERE id = ANY(%(used)b::bigint[]) AND day < %(day)s - %(days)s FOR UPDATE SKIP LOCKED)
"""

_T = TypeVar("_T")


class SharedServer:
    """A connection to the database, for the caches of all encoders of a run; after its first failure it is used no more.

    url: postgresql://…, without a password, which libpq finds by itself (PGPASSWORD, ~/.pgpass). Nothing raises: without a
    server nothing is known and nothing is kept, and one warning says so.
    """

    def __init__(self, url: str) -> None:
        self.url = url
        self._db: psycopg.Connection[Any] | None = None
        try:
            self._db = _connect(url)
            self._db.execute(f"SET statement_timeout = {STATEMENT_MS}")
            if self._db.execute("SELECT to_regclass('tagger_uses')").fetchone() == (None,):
                with self._db.transaction():
                    self._db.execute("SELECT pg_advisory_xact_lock(%s)", [LOCK])
                    self._db.execute(TABLES)
        except (psycopg.Error, OSError) as error:
            self._give_up(error)

    @property
    def usable(self) -> bool:
        return self._db is not None

    def ask(self, question: Callable[[psycopg.Connection[Any]], _T], otherwise: _T) -> _T:
        """Return what the question finds in the database; `otherwise` where there is none any more."""
        if self._db is None:
            return otherwise
        try:
            return question(self._db)
        except (psycopg.Error, OSError) as error:
            self._give_up(error)
            return otherwise

    def close(self) -> None:
        if self._db is not None:
            with suppress(psycopg.Error, OSError):
                self._db.close()
            self._db = None

    def _give_up(self, error: Exception) -> None:
        self.close()
        log.warning(
            "%s: expected a PostgreSQL server that keeps embeddings, found: %s; going on without the shared cache; look at the "
            "server, or correct [cache] url",
            one_line(self.url),
            first_line(error),
        )


class SharedCache(EmbeddingCache):
    """An embedding cache whose embeddings are on a server, and whose files are in this machine's folder.

    `trim` makes the file smaller, never what others use as well: `tagger cache prune --url` does that. Pruning this machine's
    file may cost it the files that it knew, which are then read again.
    """

    def __init__(
        self, server: SharedServer, folder: Path, identity: str, *, dimension: int, dtype: DTypeLike, limit: int
    ) -> None:
        super().__init__(folder, identity, dimension=dimension, dtype=dtype, limit=limit)
        self._server, self._read = server, list[int]()
        self._encoder = server.ask(lambda db: _encoder(db, identity), 0)

    def find_sealed(self, digests: Sequence[bytes]) -> tuple[list[int], list[bytes]]:
        """Return which of these images something is there of, ascending, and that, as `seal` stored it."""

        def find(db: psycopg.Connection[Any]) -> dict[bytes, tuple[int, bytes]]:
            rows = db.cursor(binary=True).execute(FIND, (self._encoder, list(digests))).fetchall()
            return {digest: (number, stored) for digest, number, stored in rows if is_whole(digest, stored, self._size)}

        nothing: dict[bytes, tuple[int, bytes]] = {}
        found = self._server.ask(find, nothing) if digests else nothing
        self._read += [number for number, _ in found.values()]
        places = [place for place, digest in enumerate(digests) if digest in found]
        return places, [found[digests[place]][1] for place in places]

    def keep(self, entries: Mapping[bytes, bytes], files: Mapping[bytes, tuple[bytes, bytes]] = NO_FILES) -> None:
        """Keep bytes by the image's digest on the server, and files as reference -> (version, digest) on this machine."""

        def write(db: psycopg.Connection[Any]) -> None:
            today = int(time.time() // DAY)
            if entries:
                sealed = [seal(digest, entry) for digest, entry in entries.items()]
                db.execute(PUT, (self._encoder, list(entries), sealed, today))
            if self._read:
                db.execute(NOTE_USES, {"day": today, "days": USE_DAYS, "used": self._read})

        super().keep({}, files)
        self._server.ask(write, None)
        self._read.clear()

    def known(self) -> Container[bytes]:
        """Return the digests of the images of which something is kept, as a container that another process can ask."""
        return KnownShared(self._server.url, self._encoder) if self._server.usable else ()


class KnownShared:
    """Tell, in another process, whether the server holds something of an image; it is connected to at the first question."""

    def __init__(self, url: str, encoder: int) -> None:
        self._url, self._encoder = url, encoder
        self._db: psycopg.Connection[Any] | None = None
        self._given_up = False

    def __contains__(self, digest: object) -> bool:
        if self._given_up:
            return False
        try:
            if self._db is None:
                self._db = _connect(self._url)
                self._db.execute(f"SET statement_timeout = {STATEMENT_MS}")
            assert isinstance(digest, bytes)
            rows = self._db.cursor(binary=True).execute(FIND, (self._encoder, [digest])).fetchall()
            return any(is_whole(digest, stored) for _, _, stored in rows)
        except (psycopg.Error, OSError):  # images are decoded then; the process that owns the cache reports what is wrong
            self._given_up = True
            return False

    def __del__(self) -> None:  # nobody closes it in the process that asks; psycopg would complain of that
        if self._db is not None:
            with suppress(psycopg.Error, OSError):
                self._db.close()


def statistics(url: str) -> str:
    """Describe a shared cache in a few lines for a person, as maintenance.py does a file."""
    with _maintained(url) as db:
        size, oldest = _row(
            db,
            "SELECT pg_total_relation_size('tagger_embeddings') + pg_total_relation_size('tagger_uses'), "
            "(SELECT min(day) FROM tagger_uses)",
        )
        embeddings, encoders = _row(db, "SELECT count(*), count(DISTINCT encoder) FROM tagger_embeddings")
    lines = [
        f"{one_line(url)}: {size / 1e6:,.1f} MB",
        f"{embeddings:,} embeddings, of {encoders} encoder{'s' * (encoders != 1)} (model, precision, device and versions)",
    ]
    if oldest is not None:
        lines.append(f"the oldest were last used on {time.strftime('%Y-%m-%d', time.gmtime(oldest * DAY))}, or in the week after")
    return "\n".join(lines)


def prune(url: str, unused_days: int) -> int:
    """Remove what no machine used for so many days; return how many embeddings. The server uses their space again."""
    with _maintained(url) as db, db.transaction():
        old = "SELECT id FROM tagger_uses WHERE day < %s"
        day = [int(time.time() // DAY) - unused_days]
        removed = db.execute(f"DELETE FROM tagger_embeddings WHERE id IN ({old})", day).rowcount
        db.execute("DELETE FROM tagger_uses WHERE day < %s", day)
    return removed


def _connect(url: str) -> psycopg.Connection[Any]:
    """Connect; statements stand for themselves. psycopg.Error."""
    return psycopg.connect(
        url,
        autocommit=True,
        prepare_threshold=None,  # a pool of connections between us and the server may not know prepared statements
        connect_timeout=CONNECT_SECONDS,
        tcp_user_timeout=ARRIVE_MS,
        keepalives_idle=CONNECT_SECONDS,
        keepalives_interval=CONNECT_SECONDS,
        keepalives_count=3,
        application_name="tagger",
    )


def _encoder(db: psycopg.Connection[Any], identity: str) -> int:
    """Return the number of the encoder with this identity, a new one if there is none."""
    db.execute("INSERT INTO tagger_encoders (identity) VALUES (%s) ON CONFLICT DO NOTHING", [identity])
    [number] = _row(db, "SELECT id FROM tagger_encoders WHERE identity = %s", [identity])
    return int(number)


def _row(db: psycopg.Connection[Any], query: str, parameters: Sequence[Any] = ()) -> tuple[Any, ...]:
    row = db.execute(query, parameters).fetchone()
    assert row is not None
    return tuple(row)


@contextmanager
def _maintained(url: str) -> Iterator[psycopg.Connection[Any]]:
    try:
        with _connect(url) as db:
            yield db
    except (psycopg.Error, OSError) as error:
        raise UsageError(f"{one_line(url)}: expected a shared embedding cache, found: {first_line(error)}; see --url") from error
