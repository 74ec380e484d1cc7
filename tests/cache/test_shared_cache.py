"""The embedding cache of many machines, on a real PostgreSQL server: it answers as the file does, and runs outlive it."""

from __future__ import annotations

import multiprocessing
import os
import pickle
import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import psycopg
import pytest
from click.testing import CliRunner

import tagger
from tagger.cache.embedding_cache import Embedding, EmbeddingCache
from tagger.cache.shared_cache import SharedCache, SharedServer
from tagger.cli.main import cli
from tagger.core.errors import ConfigError
from tagger.core.types import MEASURES
from tagger.inference.local_engine import LocalEngine
from tests.conftest import WriteManifest
from tests.helpers.postgres import Postgres

DIMENSION = 8
LABELS = ["shirt", "dress", "shoes"]
MEASURED = np.arange(MEASURES, dtype=np.float32)


@pytest.fixture(scope="module")
def server() -> Iterator[Postgres]:
    with Postgres.started() as server:
        yield server


@pytest.fixture
def url(server: Postgres) -> str:
    """The URL of an empty database."""
    return server.new_database()


def digest(number: int) -> bytes:
    return number.to_bytes(32, "big")


def vectors(*numbers: int) -> dict[bytes, Embedding]:
    return {digest(number): Embedding(np.full(DIMENSION, number % 1000, np.float16), MEASURED) for number in numbers}


OPENED: list[SharedServer] = []


@pytest.fixture(autouse=True)
def _closed() -> Iterator[None]:
    """Connections that are left to the garbage collector are warned of."""
    yield
    while OPENED:
        OPENED.pop().close()


def open_shared(url: str, folder: Path, identity: str = "clip") -> SharedCache:
    OPENED.append(SharedServer(url))
    return SharedCache(OPENED[-1], folder, identity, dimension=DIMENSION, dtype=np.float16, limit=1 << 30)


def answers(cache: EmbeddingCache) -> list[object]:
    """What a cache says while it is filled."""
    said: list[object] = []
    steps = [vectors(1, 2, 3), vectors(3, 4), {digest(1): Embedding(np.zeros(DIMENSION, np.float16), MEASURED / 3)}, {}]
    for number, step in enumerate(steps):
        cache.put(step, {f"{number}".encode(): (b"v", digest(number))})
        places, found, measures = cache.get([digest(one) for one in (9, 4, 1, 3, 1)])
        said += [places.tolist(), found.tolist(), measures.tolist()]
        said.append(cache.known_files([b"0", b"3", b"7"]))
        known = pickle.loads(pickle.dumps(cache.known()))
        said.append([digest(one) in known for one in range(6)])
    cache.trim()
    return said


def test_it_says_what_the_file_says(url: str, tmp_path: Path):
    file = EmbeddingCache(tmp_path / "file", "clip", dimension=DIMENSION, dtype=np.float16, limit=1 << 30)
    shared = open_shared(url, tmp_path / "shared")
    assert answers(shared) == answers(file)
    assert open_shared(url, tmp_path / "shared", "another").get([digest(1)]).places.tolist() == []
    elsewhere = open_shared(url, tmp_path / "another machine")
    assert elsewhere.get([digest(2)]).vectors.tolist() == [[2.0] * DIMENSION]
    assert elsewhere.known_files([b"0"]) == [(b"", b"")]


def _put_many(url: str, folder: Path, backwards: bool) -> None:
    cache = open_shared(url, folder)
    for start in range(0, 3000, 300):
        numbers = range(start, start + 400)
        cache.put(vectors(*(reversed(numbers) if backwards else numbers)), {})


def test_two_processes_write_the_same_at_once(url: str, tmp_path: Path, caplog: pytest.LogCaptureFixture):
    context = multiprocessing.get_context("spawn")
    writers = [context.Process(target=_put_many, args=(url, tmp_path / str(one), bool(one))) for one in range(2)]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join(60)
    assert [writer.exitcode for writer in writers] == [0, 0]
    cache = open_shared(url, tmp_path / "reader")
    assert len(cache.get([digest(number) for number in range(3100)]).places) == 3100
    assert caplog.messages == []


def test_a_damaged_entry_is_not_used_and_is_replaced(url: str, tmp_path: Path):
    cache = open_shared(url, tmp_path)
    cache.put(vectors(1, 2), {})
    with psycopg.connect(url) as db:
        db.execute(
            "UPDATE tagger_embeddings SET vector = set_byte(vector, 7, 255 - get_byte(vector, 7)) WHERE digest = %b", [digest(1)]
        )
    assert cache.get([digest(1), digest(2)]).places.tolist() == [1]
    assert digest(1) not in cache.known()
    cache.put(vectors(1), {})
    assert cache.get([digest(1), digest(2)]).places.tolist() == [0, 1]


def test_stats_and_prune(url: str, tmp_path: Path):
    cache = open_shared(url, tmp_path)
    cache.put(vectors(1, 2, 3), {})
    with psycopg.connect(url) as db:
        db.execute("UPDATE tagger_uses SET day = day - 30")
    cache.get([digest(2)])
    cache.put({}, {})  # notes that it was used
    said = CliRunner().invoke(cli, ["cache", "prune", "--unused-days", "20", "--url", url], catch_exceptions=False)
    assert said.output == "2 embeddings removed\n"
    said = CliRunner().invoke(cli, ["cache", "stats", "--url", url], catch_exceptions=False)
    assert said.output.splitlines()[1] == "1 embeddings, of 1 encoder (model, precision, device and versions)"


@pytest.mark.parametrize(
    "wrong",
    [
        "postgresql://tagger:hidden@db/tagger",
        "postgresql://tagger:hid#den@db/tagger",
        "postgresql://tagger:hid/den@db/tagger",
        "postgresql://tagger@db/tagger?password=hidden",
        "postgresql://tagger@db/tagger?pass%77ord=hidden",
        "postgresql://tagger@db/tagger?hidden",
        "redis://:hidden@db",
        "password=hidden host=db",
    ],
)
def test_a_url_with_a_password_is_refused_and_never_repeated(write_manifest: WriteManifest, wrong: str):
    with pytest.raises(ConfigError) as refused:
        tagger.run(write_manifest(["1.png"]), {"labels": LABELS, "cache": {"url": wrong}})
    assert len(refused.value.args) == 1
    assert "cache.url: expected a URL" in refused.value.args[0]
    assert "hid" not in refused.value.args[0]


@pytest.fixture
def catalogue(pictures: Path, tmp_path: Path, write_manifest: WriteManifest) -> Path:
    for number in range(40):
        shutil.copy(pictures / f"{number:04d}.png", tmp_path)
    return write_manifest([f"{number:04d}.png" for number in range(40)])


# In fp32: where auto tries another precision, it encodes a few images for that.
def tag(manifest: Path, small_clip: Path, folder: Path, url: str | None, workers: int = 0) -> tuple[tagger.RunSummary, bytes]:
    """Tag with a cache in this folder, as another machine would: it knows nothing of what other folders hold."""
    settings = {"labels": LABELS, "cache": {"folder": str(folder), **({"url": url} if url else {})}}
    output, machine = tagger.Output(overwrite=True, report=False), tagger.Machine(workers=workers)
    summary = tagger.run(manifest, settings, model=str(small_clip), precision="fp32", output=output, machine=machine)
    return summary, Path(summary.output).read_bytes()


def test_what_one_machine_encoded_no_other_encodes(url: str, catalogue: Path, small_clip: Path, tmp_path: Path):
    _, expected = tag(catalogue, small_clip, tmp_path / "file", None)
    first = tag(catalogue, small_clip, tmp_path / "one", url)
    again = tag(catalogue, small_clip, tmp_path / "one", url)
    other = tag(catalogue, small_clip, tmp_path / "two", url, workers=1)
    assert [summary.encoded_images for summary, _ in (first, again, other)] == [40, 0, 0]
    assert [found for _, found in (first, again, other)] == [expected] * 3


def test_a_server_that_cannot_be_reached_costs_the_cache_only(
    catalogue: Path, small_clip: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
):
    _, expected = tag(catalogue, small_clip, tmp_path / "file", None)
    caplog.clear()
    summary, found = tag(catalogue, small_clip, tmp_path / "one", f"postgresql:///tagger?host={tmp_path}")
    assert (summary.encoded_images, found) == (40, expected)
    assert len([one for one in caplog.messages if "expected a PostgreSQL server" in one]) == 1


def test_a_server_that_dies_in_a_run_costs_the_cache_only(
    catalogue: Path, small_clip: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
):
    _, expected = tag(catalogue, small_clip, tmp_path / "file", None)
    caplog.clear()
    with Postgres.started() as server:
        original = LocalEngine.tag

        def tag_without(*arguments, **keywords):
            server.kill()
            return original(*arguments, **keywords)

        monkeypatch.setattr(LocalEngine, "tag", tag_without)
        summary, found = tag(catalogue, small_clip, tmp_path / "one", server.new_database(), workers=1)
    assert (summary.encoded_images, found) == (40, expected)
    [said] = [one for one in caplog.messages if "expected a PostgreSQL server" in one]
    assert "going on without the shared cache; look at the server" in said
    assert os.linesep not in said
