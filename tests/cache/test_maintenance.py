"""tagger cache stats, prune, verify: as a person calls them."""

from __future__ import annotations

import os
import sqlite3
import time
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from tagger.cache import byte_cache as module
from tagger.cache.byte_cache import ByteCache
from tagger.cache.embedding_cache import Embedding, EmbeddingCache
from tagger.cli.main import cli
from tagger.core.errors import UsageError
from tagger.core.types import MEASURES
from tagger.encoders.clip import ClipEncoder
from tagger.encoders.remembered_clip import ClipMemory

MEASURED = np.zeros(MEASURES, np.float32)


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> EmbeddingCache:
    """A cache of 200 vectors of the last winter and 100 of today, and of another encoder's ten."""
    folder, day = tmp_path / "cache" / "tagger", time.time()
    kept = EmbeddingCache(folder, "clip", dimension=512, dtype=np.float16, limit=1 << 30)
    monkeypatch.setattr(module.time, "time", lambda: day - 200 * 86400)
    kept.put(
        {bytes([number]) * 32: Embedding(np.zeros(512, np.float16), MEASURED) for number in range(200)},
        {b"file": (b"v", bytes(32))},
    )
    monkeypatch.setattr(module.time, "time", lambda: day)
    kept.put({bytes([number]) * 31: Embedding(np.zeros(512, np.float16), MEASURED) for number in range(100)}, {})
    other = EmbeddingCache(folder, "another", dimension=4, dtype=np.float32, limit=1 << 30)
    other.put({bytes([number]): Embedding(np.zeros(4, np.float32), MEASURED) for number in range(10)}, {})
    other.close()
    return kept


def call(*arguments: str) -> str:
    result = CliRunner().invoke(cli, ["cache", *arguments], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.output


def test_stats_say_how_much_there_is(cache: EmbeddingCache):
    lines = call("stats").splitlines()
    assert lines[0].startswith(f"{cache.path}: ")
    assert lines[1:3] == [
        "310 embeddings, of 2 encoders (model, precision, device and versions)",
        "1 files known by size and times",
    ]
    winter = time.strftime("%Y-%m-%d", time.gmtime(time.time() - 200 * 86400))
    assert lines[3] == f"the oldest were last used on {winter}, or in the week after"
    assert call("stats", "--cache", str(cache.path.parent)).splitlines() == lines


def test_stats_count_what_is_no_embedding_of_an_image(cache: EmbeddingCache):
    """Prompts, bad images and thumbnails lie in the same file."""
    before = call("stats").splitlines()
    folder = cache.path.parent
    for count, kind in enumerate(("prompts of a text tower", "errors by pillow 12", "thumbnails of 96 pixels"), 1):
        kept = ByteCache(folder, kind, limit=1 << 30)
        kept.keep({bytes([number]): b"kept" for number in range(count)})
        kept.close()
    assert call("stats").splitlines()[1:5] == [
        before[1],
        "1 embeddings of prompts",
        "2 images that cannot be decoded",
        "3 small pictures for reports",
    ]


def test_prune_removes_what_was_not_used(cache: EmbeddingCache):
    assert call("prune", "--unused-days", "90") == "200 embeddings removed\n"
    assert len(cache.get([bytes([number]) * 31 for number in range(100)]).places) == 100
    assert cache.get([bytes(32)]).places.tolist() == []
    assert cache.known_files([b"file"]) == [(b"", b"")]


def test_prune_to_a_size(cache: EmbeddingCache):
    cache.close()
    size = cache.path.stat().st_size
    assert call("prune", "--max-gb", str(size / 2 / 1e9)) != "0 embeddings removed\n"
    assert cache.path.stat().st_size <= size / 2
    assert call("prune", "--max-gb", "0") != "0 embeddings removed\n"
    assert call("stats").splitlines()[1].startswith("0 embeddings")


@pytest.fixture
def beside(cache: EmbeddingCache) -> dict[str, Path]:
    """Files beside the cache, by how many days ago they were used."""
    found = {}
    for name, size, days in (("int8/old", 3_000_000, 200), ("int8/new", 2_000_000, 1), ("models/a.json", 500, 1)):
        file = found[name] = cache.path.parent / name
        file.parent.mkdir(exist_ok=True)
        file.write_bytes(bytes(size))
        used = time.time() - days * 86400
        os.utime(file, (used, used))
    return found


def test_stats_say_what_lies_beside(beside: dict[str, Path]):
    lines = call("stats").splitlines()
    assert lines[2:4] == ["2 int8 models, 5.0 MB, in int8", "1 descriptions of models, 0.0 MB, in models"]


def test_prune_removes_files_that_were_not_used(beside: dict[str, Path]):
    assert call("prune", "--unused-days", "90") == "200 embeddings removed, and 1 files beside them\n"
    assert [name for name, file in beside.items() if file.exists()] == ["int8/new", "models/a.json"]


def test_prune_to_a_size_keeps_the_files_that_were_used_last(cache: EmbeddingCache, beside: dict[str, Path]):
    cache.close()
    assert call("prune", "--max-gb", "0.004") == "0 embeddings removed, and 1 files beside them\n"
    assert [name for name, file in beside.items() if file.exists()] == ["int8/new", "models/a.json"]
    size = cache.path.stat().st_size
    call("prune", "--max-gb", str((2_000_500 + size / 2) / 1e9))  # embeddings make room
    assert cache.path.stat().st_size <= size / 2
    assert beside["int8/new"].exists()
    assert call("prune", "--max-gb", "0").endswith(" embeddings removed, and 2 files beside them\n")


def test_what_a_run_uses_is_known_by_its_time(encoder: ClipEncoder, small_clip: Path, tmp_path: Path):
    """Else a model that is used every night would be made again, of other images, when it is old."""
    memory = ClipMemory(tmp_path, small_clip, ())
    memory.keep(encoder)
    [file] = (tmp_path / "models").iterdir()
    os.utime(file, (1, 1))
    assert memory.recall() is not None
    assert file.stat().st_mtime > 1


def test_verify_removes_what_is_damaged(cache: EmbeddingCache):
    assert call("verify") == "310 embeddings are whole, 0 were damaged and are removed\n"
    with closing(sqlite3.connect(cache.path)) as db, db:
        db.execute("UPDATE embeddings SET vector = zeroblob(1028) WHERE id BETWEEN 11 AND 20")
    assert call("verify") == "300 embeddings are whole, 10 were damaged and are removed\n"
    assert call("verify") == "300 embeddings are whole, 0 were damaged and are removed\n"


def test_verify_removes_a_file_that_is_no_database_any_more(cache: EmbeddingCache):
    cache.close()
    data = bytearray(cache.path.read_bytes())
    data[20_000:] = os.urandom(len(data) - 20_000)
    cache.path.write_bytes(data)
    expected = f"{cache.path}: the file was damaged as a whole and is removed; the next run makes a new one\n"
    assert call("verify") == expected
    assert not cache.path.exists()


def test_where_no_cache_is_one_line_says_so(tmp_path: Path):
    for command in (["stats"], ["verify"], ["prune", "--max-gb", "1"]):
        with pytest.raises(
            UsageError, match=f"{tmp_path}.*: expected an embedding cache, found none; name its folder with --cache"
        ):
            call(*command)


def test_another_programs_database_is_left_alone(tmp_path: Path):
    with closing(sqlite3.connect(tmp_path / "embeddings.sqlite")) as db, db:
        db.execute("CREATE TABLE notes (text)")
    before = (tmp_path / "embeddings.sqlite").read_bytes()
    for command in (["stats"], ["verify"], ["prune", "--max-gb", "0"]):
        with pytest.raises(UsageError, match="found another database"):
            call(*command, "--cache", str(tmp_path))
    assert (tmp_path / "embeddings.sqlite").read_bytes() == before
