"""The embedding cache: what was put is got, in any process, and nothing that was damaged."""

from __future__ import annotations

import multiprocessing
import os
import signal
import sqlite3
import time
from collections.abc import Iterable
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tagger.cache import byte_cache as module
from tagger.cache.cache_file import transaction
from tagger.cache.embedding_cache import Embedding, EmbeddingCache
from tagger.core.types import MEASURES

DIMENSION = 8
MEASURED = np.arange(MEASURES, dtype=np.float32)


def open_cache(folder: Path, identity: str = "clip", limit: int = 1 << 30, dtype: type = np.float16) -> EmbeddingCache:
    return EmbeddingCache(folder, identity, dimension=DIMENSION, dtype=dtype, limit=limit)


def digest(number: int) -> bytes:
    return number.to_bytes(32, "big")


def get(cache: EmbeddingCache, digests: Iterable[bytes]) -> dict[bytes, Embedding]:
    """What a cache knows, by digest."""
    asked = list(digests)
    places, found, measures = cache.get(asked)
    assert places.tolist() == sorted(places.tolist())
    embeddings = map(Embedding, found, measures)
    return dict(zip([asked[place] for place in places.tolist()], embeddings, strict=True))


def vectors(*numbers: int) -> dict[bytes, Embedding]:
    return {digest(number): Embedding(np.full(DIMENSION, number % 1000, np.float16), MEASURED) for number in numbers}


def test_what_was_put_is_there_in_the_next_run(tmp_path: Path):
    cache = open_cache(tmp_path)
    cache.put(vectors(1, 2, 3), {b"a": (b"v1", digest(1)), b"b": (b"v1", digest(2))})
    cache.close()
    cache = open_cache(tmp_path)
    found = get(cache, [digest(3), digest(4), digest(1)])
    assert {key: value.vector.tolist() for key, value in found.items()} == {digest(1): [1.0] * 8, digest(3): [3.0] * 8}
    assert cache.known_files([b"b", b"c", b"a"]) == [(b"v1", digest(2)), (b"", b""), (b"v1", digest(1))]
    assert digest(1) in cache.known()
    assert digest(4) not in cache.known()


def test_another_encoder_knows_none_of_it(tmp_path: Path):
    open_cache(tmp_path).put(vectors(1), {b"a": (b"v1", digest(1))})
    other = open_cache(tmp_path, "another")
    assert get(other, [digest(1)]) == {}
    assert digest(1) not in other.known()
    assert other.known_files([b"a"]) == [(b"v1", digest(1))]  # what the file is does not depend on the encoder


def test_measures_are_kept_with_their_image_and_belong_to_it(tmp_path: Path):
    cache = open_cache(tmp_path)
    cache.put({digest(1): Embedding(np.ones(DIMENSION, np.float16), MEASURED / 3), **vectors(2)}, {})
    found = get(cache, [digest(1), digest(2)])
    assert [one.vector.tolist() for one in found.values()] == [[1.0] * 8, [2.0] * 8]
    assert [one.measures.tolist() for one in found.values()] == [(MEASURED / 3).tolist(), MEASURED.tolist()]
    with closing(sqlite3.connect(cache.path)) as db, db:
        db.execute("UPDATE embeddings SET vector = CAST(vector || 'x' AS BLOB)")
    assert get(cache, [digest(1), digest(2)]) == {}


@given(steps=st.lists(st.dictionaries(st.integers(0, 20), st.integers(0, 9), max_size=8), max_size=6))
@settings(max_examples=40, deadline=None)
def test_the_last_put_wins(tmp_path_factory: pytest.TempPathFactory, steps: list[dict[int, int]]):
    cache = open_cache(tmp_path_factory.mktemp("cache"))
    expected: dict[bytes, list[float]] = {}
    for step in steps:
        cache.put({digest(key): Embedding(np.full(DIMENSION, value, np.float16), MEASURED) for key, value in step.items()}, {})
        expected |= {digest(key): [float(value)] * DIMENSION for key, value in step.items()}
    found = get(cache, [digest(key) for key in range(21)])
    assert {key: value.vector.tolist() for key, value in found.items()} == expected
    cache.close()


@pytest.mark.parametrize("damaged", ["(SELECT vector FROM embeddings WHERE id = 2)", "'text'", "1", "x''"])
def test_a_damaged_vector_is_not_trusted_and_is_replaced(tmp_path: Path, damaged: str):
    cache = open_cache(tmp_path)
    cache.put(vectors(1, 2), {})
    with closing(sqlite3.connect(cache.path)) as db, db:
        db.execute(f"UPDATE embeddings SET vector = {damaged} WHERE id = 1")
    assert set(get(cache, [digest(1), digest(2)])) == {digest(2)}
    assert digest(1) not in cache.known()
    cache.put(vectors(1), {})
    assert get(cache, [digest(1)])[digest(1)].vector.tolist() == [1.0] * DIMENSION


@pytest.mark.parametrize("damage", ["garbage", "half", "another program's tables", "no tables left"])
def test_a_damaged_file_is_made_anew_and_said_once(tmp_path: Path, caplog: pytest.LogCaptureFixture, damage: str):
    cache = open_cache(tmp_path)
    cache.put(vectors(*range(2000)), {})
    cache.close()
    if damage == "garbage":
        cache.path.write_bytes(b"not a database, whatever it was" * 100)
    elif damage == "half":
        data = bytearray(cache.path.read_bytes())
        data[len(data) // 4 :] = os.urandom(len(data) - len(data) // 4)
        cache.path.write_bytes(data)
    elif damage == "no tables left":
        with closing(sqlite3.connect(cache.path)) as db, db:
            db.execute("DROP TABLE embeddings")
    else:
        cache.path.unlink()
        with closing(sqlite3.connect(cache.path)) as db, db:
            db.execute("CREATE TABLE notes (text)")
    before = cache.path.read_bytes()
    cache = open_cache(tmp_path)
    get(cache, [digest(number) for number in range(2000)])
    cache.put(vectors(1), {})
    found = get(cache, [digest(1)])
    if damage == "another program's tables":
        assert (found, cache.path.read_bytes()) == ({}, before)
        assert "going on without the embedding cache" in caplog.text
    else:
        assert list(found) == [digest(1)]
        assert "the embedding cache is made anew" in caplog.text
    assert len(caplog.messages) == 1
    cache.close()


def test_a_folder_that_cannot_be_written_costs_the_cache_and_nothing_else(tmp_path: Path, caplog: pytest.LogCaptureFixture):
    (tmp_path / "file").write_text("")
    cache = open_cache(tmp_path / "file")
    cache.put(vectors(1), {b"a": (b"v", digest(1))})
    assert (get(cache, [digest(1)]), cache.known_files([b"a"])) == ({}, [(b"", b"")])
    assert digest(1) not in cache.known()
    cache.trim()
    assert len(caplog.messages) == 1
    assert "going on without the embedding cache" in caplog.text


def test_what_was_not_used_for_longest_goes_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    cache = open_cache(tmp_path, limit=500_000)
    day = time.time()
    for night, first in enumerate(range(0, 8000, 1000)):
        monkeypatch.setattr(module.time, "time", lambda night=night: day + night * 30 * 86400)
        cache.put(vectors(*range(first, first + 1000)), {bytes([night]): (b"v", digest(first))})
        get(cache, [digest(number) for number in range(500)])  # these are used every night
    cache.put({}, {})
    cache.trim()
    found = get(cache, [digest(number) for number in range(8000)])
    numbers = [int.from_bytes(key, "big") for key in found]
    assert set(range(500)) <= set(numbers)
    others = [number for number in numbers if number >= 500]
    assert others == list(range(8000 - len(others), 8000))  # the latest
    assert 1000 < len(others) < 7000
    cache.close()
    assert cache.path.stat().st_size <= 500_000
    again = open_cache(tmp_path)
    assert again.known_files([bytes([7]), bytes([1])]) == [(b"v", digest(7000)), (b"", b"")]


def _put_many(folder: Path, first: int) -> None:
    cache = open_cache(folder)
    for number in range(first, first + 1_000_000, 10):
        cache.put(vectors(*range(number, number + 10)), {})


def test_writers_that_are_killed_leave_whole_commits_to_two_readers(tmp_path: Path):
    context = multiprocessing.get_context("spawn")
    readers = [open_cache(tmp_path), open_cache(tmp_path)]
    for turn in range(3):
        writers = [context.Process(target=_put_many, args=(tmp_path, (10 * turn + index) * 1_000_000)) for index in range(2)]
        for writer in writers:
            writer.start()
        deadline = time.monotonic() + 60
        seen = [0, 0]
        while min(seen) < 20 and time.monotonic() < deadline:
            for index in range(2):
                first = (10 * turn + index) * 1_000_000
                for reader in readers:
                    commits = [get(reader, map(digest, range(number, number + 10))) for number in range(first, first + 300, 10)]
                    assert {len(commit) for commit in commits} <= {0, 10}
                    seen[index] = max(seen[index], sum(map(bool, commits)))
        for writer in writers:
            os.kill(writer.pid or 0, signal.SIGKILL)
            writer.join()
        assert min(seen) >= 20
    with closing(sqlite3.connect(readers[0].path)) as db, db:
        assert db.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
    for reader in readers:
        reader.close()


@pytest.mark.parametrize("statement", ["BEGIN IMMEDIATE", "INSERT", "COMMIT"])
def test_a_stop_at_any_statement_leaves_no_transaction_open(statement: str):
    class Stopped(sqlite3.Connection):
        def execute(self, sql: str, *parameters: Any) -> sqlite3.Cursor:
            if sql == statement == "COMMIT":
                raise KeyboardInterrupt
            cursor = super().execute(sql, *parameters)
            if sql.startswith(statement):
                raise KeyboardInterrupt
            return cursor

    with closing(sqlite3.connect(":memory:", factory=Stopped, isolation_level=None)) as db:
        db.execute("CREATE TABLE numbers (number)")
        with pytest.raises(KeyboardInterrupt), transaction(db):
            db.execute("INSERT INTO numbers VALUES (1)")
        assert not db.in_transaction
        assert db.execute("SELECT * FROM numbers").fetchall() == []
