"""Time stores that many machines could share as their embedding cache: 8 processes write, then 8 ask.

python tests/benchmarks/shared_cache.py postgresql --count 1000000
python tests/benchmarks/shared_cache.py redis --count 1000000
python tests/benchmarks/shared_cache.py sqlite --count 1000000

PostgreSQL and SQLite are asked through the cache itself, Redis by MSET and MGET of the same entries (pip install redis). Servers
are Debian's (postgresql, redis-server), started here on a Unix socket, both writing to disk, and removed afterwards.
Entries are random float16 vectors; commits are of 4,096, look-ups of 32,768 keys in random order.
"""

from __future__ import annotations

import argparse
import hashlib
import multiprocessing
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from common import machine, print_table

sys.path.insert(0, str(Path(__file__).parents[2]))

from tagger.cache.cache_file import is_whole, seal
from tagger.cache.embedding_cache import Embedding, EmbeddingCache
from tagger.core.types import MEASURES
from tests.helpers.postgres import Postgres

WRITERS, COMMIT, ASKED, DIMENSION = 8, 4096, 32_768, 512
ROUNDS = 4  # look-ups of each process


class RedisCache:
    """The calls of an embedding cache that are timed, on Redis."""

    def __init__(self, socket: str) -> None:
        import redis

        self._db = redis.Redis(unix_socket_path=socket)

    def put(self, embeddings: dict[bytes, Embedding], _: object) -> None:
        self._db.mset({key: seal(key, one.vector.tobytes() + one.measures.tobytes()) for key, one in embeddings.items()})

    def found(self, digests: list[bytes]) -> int:
        return sum(is_whole(key, stored) for key, stored in zip(digests, self._db.mget(digests), strict=True))


class Timed:
    """One of our own caches, as RedisCache."""

    def __init__(self, cache: EmbeddingCache) -> None:
        self.put = cache.put
        self._cache = cache

    def found(self, digests: list[bytes]) -> int:
        return len(self._cache.get(digests).places)


def open_store(kind: str, place: str) -> RedisCache | Timed:
    """Open a store as one machine does; `place` is the URL, the socket or the folder."""
    if kind == "redis":
        return RedisCache(place)
    if kind == "sqlite":
        return Timed(EmbeddingCache(Path(place), "benchmark", dimension=DIMENSION, dtype=np.float16, limit=1 << 50))
    from tagger.cache.shared_cache import SharedCache, SharedServer

    folder = Path(tempfile.mkdtemp(dir=os.environ["TAGGER_BENCHMARK"]))  # another machine's
    return Timed(SharedCache(SharedServer(place), folder, "benchmark", dimension=DIMENSION, dtype=np.float16, limit=1 << 50))


def digest(number: int) -> bytes:
    return hashlib.sha256(number.to_bytes(8, "little")).digest()


def write(kind: str, place: str, writer: int, count: int) -> None:
    store, rng = open_store(kind, place), np.random.default_rng(writer)
    share = range(writer * count // WRITERS, (writer + 1) * count // WRITERS)
    for start in range(share.start, share.stop, COMMIT):
        numbers = range(start, min(start + COMMIT, share.stop))
        vectors = rng.standard_normal((len(numbers), DIMENSION), np.float32).astype(np.float16)
        measures = np.ones((len(numbers), MEASURES), np.float32)
        store.put(dict(zip(map(digest, numbers), map(Embedding, vectors, measures), strict=True)), {})


def ask(kind: str, place: str, reader: int, count: int) -> None:
    store, rng = open_store(kind, place), np.random.default_rng(100 + reader)
    for _ in range(ROUNDS):
        asked = [digest(number) for number in rng.integers(0, count, ASKED).tolist()]
        if (found := store.found(asked)) != ASKED:
            raise SystemExit(f"expected {ASKED} embeddings, found {found}")


def seconds_of(action: Callable[..., None], kind: str, place: str, count: int) -> float:
    """Return the seconds that WRITERS processes take that do this at once."""
    context = multiprocessing.get_context("spawn")
    processes = [context.Process(target=action, args=(kind, place, number, count)) for number in range(WRITERS)]
    began = time.perf_counter()
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    if any(process.exitcode for process in processes):
        raise SystemExit(f"{kind}: expected {WRITERS} processes to end well, found {[one.exitcode for one in processes]}")
    return time.perf_counter() - began


@contextmanager
def started(kind: str, folder: Path) -> Iterator[tuple[str, Path]]:
    """Start the store; yield how to open it, and the folder that its files are in."""
    if kind == "sqlite":
        yield str(folder), folder
    elif kind == "postgresql":
        with Postgres.started(("shared_buffers=512MB", "max_wal_size=4GB")) as server:
            yield server.new_database(), server.folder
    else:
        socket = folder / "socket"
        options = ["--port", "0", "--unixsocket", socket, "--dir", folder, "--appendonly", "yes", "--save", ""]
        server = subprocess.Popen(["redis-server", *options], stdout=subprocess.DEVNULL)
        try:
            while not socket.exists():
                time.sleep(0.1)
            yield str(socket), folder
        finally:
            server.terminate()
            server.wait()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("store", choices=["postgresql", "redis", "sqlite"])
    parser.add_argument("--count", type=int, default=1_000_000)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch, started(options.store, Path(scratch)) as (place, files):
        os.environ["TAGGER_BENCHMARK"] = scratch
        written = seconds_of(write, options.store, place, options.count)
        asked = seconds_of(ask, options.store, place, options.count)
        size = sum(file.stat().st_size for file in files.rglob("*") if file.is_file())
    print(f"Random float16 vectors of {DIMENSION} numbers, {WRITERS} processes. {machine()}")
    rates = (f"{options.count / written:,.0f}", f"{WRITERS * ROUNDS * ASKED / asked:,.0f}")
    print_table(
        ["store", "entries", "put a second", "found a second", "GB on disk"],
        [[options.store, f"{options.count:,}", *rates, f"{size / 1e9:.1f}"]],
    )


if __name__ == "__main__":
    main()
