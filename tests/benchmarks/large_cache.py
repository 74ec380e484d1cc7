"""Time the embedding cache at the size of a large catalogue: filled, asked, pruned and verified.

python tests/benchmarks/large_cache.py --count 1000000

It holds random vectors, and a file for each; nothing else is in the process but the cache. Look-ups are those of a run: the
files and the embeddings of shards of 4,096 images, in the order in which they were put, and, as of a manifest that was shuffled,
in random order.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import resource
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
from common import machine, print_table
from numpy.typing import NDArray

from tagger.cache import maintenance
from tagger.cache.embedding_cache import Embedding, EmbeddingCache
from tagger.core.types import MEASURES

SHARD = 4096
ASKED = 50  # shards of each order


def name(number: int) -> bytes:
    """Return the name of a file, as images/file_versions.py makes them: 16 bytes that say nothing."""
    return hashlib.blake2b(number.to_bytes(8, "little"), digest_size=16).digest()


def digest(number: int) -> bytes:
    return hashlib.sha256(number.to_bytes(8, "little")).digest()


def fill(cache: EmbeddingCache, count: int, dimension: int) -> None:
    rng = np.random.default_rng(0)
    for start in range(0, count, SHARD):
        numbers = range(start, min(start + SHARD, count))
        vectors = rng.standard_normal((len(numbers), dimension), np.float32).astype(np.float16)
        measures = np.ones((len(numbers), MEASURES), np.float32)
        embeddings = map(Embedding, vectors, measures)
        cache.put(
            dict(zip(map(digest, numbers), embeddings, strict=True)), {name(one): (bytes(32), digest(one)) for one in numbers}
        )


def ask(cache: EmbeddingCache, shards: list[NDArray[np.int64]]) -> float:
    """Return the images a second whose file and embedding are found."""
    asked = [list(map(name, numbers.tolist())) for numbers in shards]
    began = time.perf_counter()
    found = sum(len(cache.get([file[1] for file in cache.known_files(names)]).places) for names in asked)
    seconds = time.perf_counter() - began
    expected = sum(map(len, shards))
    if found != expected:
        raise SystemExit(f"expected {expected} embeddings, found {found}")
    return found / seconds


def seconds_of(what: str, action: Callable[[], object]) -> float:
    """Return the seconds that an action takes, and say them on stderr, with the most memory up to then."""
    began = time.perf_counter()
    action()
    seconds = time.perf_counter() - began
    print(f"{what}: {seconds:,.1f} s; at most {peak():,.0f} MB so far", file=sys.stderr, flush=True)
    return seconds


def peak() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=10_000_000)
    parser.add_argument("--dimension", type=int, default=512)
    parser.add_argument("--folder", type=Path, help="on which disk; default: the temporary folder's")
    options = parser.parse_args()
    rng = np.random.default_rng(1)
    with tempfile.TemporaryDirectory(dir=options.folder) as place:
        cache = EmbeddingCache(Path(place), "benchmark", dimension=options.dimension, dtype=np.float16, limit=1 << 50)
        filled = options.count / seconds_of("put", lambda: fill(cache, options.count, options.dimension))
        starts = rng.integers(0, max(options.count - SHARD, 1), ASKED).tolist()
        in_order = ask(cache, [np.arange(start, min(start + SHARD, options.count)) for start in starts])
        shuffled = ask(cache, [rng.integers(0, options.count, SHARD) for _ in range(ASKED)])
        cache.put({}, {})
        cache.close()
        size = os.stat(cache.path).st_size  # noqa: PTH116
        verify = seconds_of("verify", lambda: maintenance.verify(cache.path))
        prune = seconds_of("prune", lambda: maintenance.prune(cache.path, size // 2, None))
    print(f"Random float16 vectors of {options.dimension} numbers. {machine()}")
    heads = [
        "embeddings",
        "put a second",
        "GB",
        "bytes each",
        "found a second",
        "shuffled",
        "verify, s",
        "prune to half, s",
        "most MB",
    ]
    rates = (f"{in_order:,.0f}", f"{shuffled:,.0f}")
    print_table(
        heads,
        [
            [
                f"{options.count:,}",
                f"{filled:,.0f}",
                f"{size / 1e9:.2f}",
                f"{size / options.count:,.0f}",
                *rates,
                f"{verify:,.1f}",
                f"{prune:,.1f}",
                f"{peak():,.0f}",
            ]
        ],
    )


if __name__ == "__main__":
    main()
