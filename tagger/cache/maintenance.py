"""Maintenance of a cache folder by hand: say what is in it, make it smaller, remove what is damaged of the embeddings."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import NamedTuple

from tagger.cache.cache_file import FILE, connect, evict, is_whole, remove_files, transaction, used_bytes
from tagger.cache.embedding_cache import cache_folder
from tagger.core.errors import UsageError
from tagger.core.text import first_line

DAY = 86400
# What entries are that are no embeddings of images, by the first word of their identity.
OTHERS = {
    "prompts": "embeddings of prompts",
    "errors": "images that cannot be decoded",
    "thumbnails": "small pictures for reports",
}
# What the files in the folders beside the embeddings' file are; encoders/ and inference/, which put them there, name the folders.
FOLDERS = {"int8": "int8 models", "models": "descriptions of models", "vocabulary": "vocabularies' embeddings"}


class FileBeside(NamedTuple):
    """Describe a file in one of FOLDERS: its size in bytes, and when it was used last, in seconds of the epoch."""

    path: Path
    size: int
    used: float


class Pruned(NamedTuple):
    """Count the embeddings, and the files beside their own, that were removed."""

    embeddings: int
    files: int


def find_cache(folder: Path | None) -> Path:
    """Return the file of the cache in `folder`, or in the user's cache folder; UsageError if there is none."""
    place = cache_folder(folder)
    if place is None or not (place / FILE).is_file():
        raise UsageError(f"{place or 'no home folder'}: expected an embedding cache, found none; name its folder with --cache")
    return place / FILE


@contextmanager
def _opened(path: Path) -> Iterator[sqlite3.Connection]:
    try:
        with closing(connect(path)) as db:
            yield db
    except (sqlite3.Error, OSError) as error:
        raise UsageError(
            f"{path}: expected an embedding cache, found: {first_line(error)}; `tagger cache verify` removes a damaged one"
        ) from error


def statistics(path: Path) -> str:
    """Describe the cache in a few lines for a person: sizes, counts, the day that the oldest vector was last used."""
    with _opened(path) as db:
        kinds = db.execute("SELECT identity, count(*) FROM embeddings JOIN encoders ON encoders.id = encoder GROUP BY encoder")
        counts = [(identity.partition(" ")[0], count) for identity, count in kinds]
        [(files,)] = db.execute("SELECT count(*) FROM files")
        [(oldest,)] = db.execute("SELECT min(day) FROM uses")
        size = used_bytes(db)
    vectors = [count for kind, count in counts if kind not in OTHERS]
    encoders = f"{len(vectors)} encoder{'s' * (len(vectors) != 1)} (model, precision, device and versions)"
    lines = [f"{path}: {size / 1e6:,.1f} MB", f"{sum(vectors):,} embeddings, of {encoders}"]
    for kind, what in OTHERS.items():
        if of_kind := sum(count for one, count in counts if one == kind):
            lines.append(f"{of_kind:,} {what}")
    for folder, what in FOLDERS.items():
        if sizes := [file.size for file in _files_beside(path, folder)]:
            lines.append(f"{len(sizes):,} {what}, {sum(sizes) / 1e6:,.1f} MB, in {folder}")
    lines.append(f"{files:,} files known by size and times")
    if oldest is not None:
        lines.append(f"the oldest were last used on {time.strftime('%Y-%m-%d', time.gmtime(oldest * DAY))}, or in the week after")
    return "\n".join(lines)


def prune(path: Path, max_bytes: int | None, unused_days: int | None) -> Pruned:
    """Remove what no run used for so many days, then what was used least recently until the cache folder is small enough.

    None leaves out that step. Of the size, files beside the embeddings come first: they are few, and take long to make again.
    """
    beside = [file for folder in FOLDERS for file in _files_beside(path, folder)]
    since = None if unused_days is None else time.time() - unused_days * DAY
    kept_bytes, doomed = 0, list[Path]()
    for file in sorted(beside, key=lambda file: file.used, reverse=True):
        if (since is not None and file.used < since) or (max_bytes is not None and kept_bytes + file.size > max_bytes):
            doomed.append(file.path)
        else:
            kept_bytes += file.size
    removed = _prune_embeddings(path, None if max_bytes is None else max_bytes - kept_bytes, unused_days)
    for one in doomed:
        try:
            one.unlink(missing_ok=True)
        except OSError as error:
            raise UsageError(f"{one}: expected to remove it, found: {error.strerror}; correct its permissions") from error
    return Pruned(removed, len(doomed))


def _files_beside(path: Path, folder: str) -> list[FileBeside]:
    found = []
    for file in (path.parent / folder).glob("*"):
        with suppress(FileNotFoundError):  # a run renames what it has written
            stat = file.stat()
            found.append(FileBeside(file, stat.st_size, stat.st_mtime))
    return found


def _prune_embeddings(path: Path, max_bytes: int | None, unused_days: int | None) -> int:
    removed = 0
    with _opened(path) as db:
        if unused_days is not None:
            with transaction(db):
                old = "SELECT id FROM uses WHERE day < ?"
                day = [int(time.time() // DAY) - unused_days]
                removed = db.execute(f"DELETE FROM embeddings WHERE id IN ({old})", day).rowcount
                db.execute(f"DELETE FROM uses WHERE id IN ({old})", day)
                db.execute("DELETE FROM files WHERE digest NOT IN (SELECT digest FROM embeddings)")
        removed += evict(db, used_bytes(db) if max_bytes is None else max_bytes)
        db.executescript("PRAGMA incremental_vacuum")
        db.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
    return removed


def verify(path: Path) -> tuple[int, int] | None:
    """Read everything and remove the damaged vectors; return how many are whole and how many were damaged.

    None: the file itself was damaged, and is removed. UsageError for a database that is no embedding cache, or that cannot be
    read or written.
    """
    try:
        with closing(connect(path)) as db:
            if db.execute("PRAGMA integrity_check(1)").fetchall() != [("ok",)]:
                raise sqlite3.DatabaseError("integrity_check")
            whole, damaged = 0, []
            for number, digest, stored in db.execute("SELECT id, digest, vector FROM embeddings"):
                if is_whole(digest, stored):
                    whole += 1
                else:
                    damaged.append((number,))
            with transaction(db):
                db.executemany("DELETE FROM embeddings WHERE id = ?", damaged)
                db.executemany("DELETE FROM uses WHERE id = ?", damaged)
            return whole, len(damaged)
    except sqlite3.OperationalError as error:
        raise UsageError(f"{path}: expected to read and write it, found: {first_line(error)}; correct its permissions") from error
    except OSError as error:
        raise UsageError(f"{path}: {first_line(error)}") from error
    except sqlite3.DatabaseError:
        remove_files(path)
        return None
