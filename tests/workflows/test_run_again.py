"""The second night: what has not changed is not computed again, and the results are those of a night from nothing."""

from __future__ import annotations

import shutil
import sqlite3
from contextlib import closing
from pathlib import Path
from types import SimpleNamespace

import pytest
from PIL import Image

import tagger
from tagger.images import file_versions as versions
from tests.conftest import WriteManifest
from tests.helpers.keywords import keywords

LABELS = ["shirt", "dress", "shoes"]
COUNT = 80


@pytest.fixture
def catalogue(pictures: Path, tmp_path: Path, write_manifest: WriteManifest, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A manifest of images that nobody touched for long, and of a file that is none."""
    monkeypatch.setattr(versions, "SETTLED_NS", 0)
    names = [f"{number:04d}.png" for number in range(COUNT)]
    for name in names:
        shutil.copy(pictures / name, tmp_path / name)
    (tmp_path / "none.png").write_text("<html>")
    return write_manifest([*names, "none.png"])


def tag(manifest: Path, small_clip: Path, labels: list[str] = LABELS, **options: object) -> tuple[tagger.RunSummary, bytes]:
    options = {"workers": 0, "overwrite": True, "report": False, **options}  # a report reads the images that it shows
    summary = tagger.run(manifest, **keywords(model=small_clip, labels=labels, **options))
    return summary, Path(summary.output).read_bytes()


def test_nothing_changed_nothing_read_nothing_encoded(catalogue: Path, small_clip: Path, monkeypatch: pytest.MonkeyPatch):
    first, expected = tag(catalogue, small_clip)
    bad = first.errors.total()
    assert (first.encoded_images, bad) == (COUNT, 1)
    read: list[str] = []
    from tagger.images import loader

    original = loader.read_bytes
    monkeypatch.setattr(loader, "read_bytes", lambda ref, policy: (read.append(ref.path), original(ref, policy))[1])
    second, found = tag(catalogue, small_clip)
    assert (second.encoded_images, second.errors.total(), read) == (0, bad, [])
    assert found == expected
    assert tag(catalogue, small_clip, cache=False)[1] == expected


def test_a_changed_label_set_costs_no_image_pass(catalogue: Path, small_clip: Path):
    tag(catalogue, small_clip)
    other = ["hat", "bag", "shoes", "shirt"]
    summary, found = tag(catalogue, small_clip, other)
    assert summary.encoded_images == 0
    assert found == tag(catalogue, small_clip, other, cache=False)[1]


@pytest.mark.parametrize("workers", [0, 1])
def test_only_replaced_images_are_encoded(catalogue: Path, small_clip: Path, pictures: Path, workers: int):
    tag(catalogue, small_clip, workers=workers)
    for name, source in (("0003.png", "0501.png"), ("0050.png", "0502.png")):
        shutil.copy(pictures / source, catalogue.parent / name)
    summary, found = tag(catalogue, small_clip, workers=workers)
    assert summary.encoded_images == 2
    assert found == tag(catalogue, small_clip, cache=False)[1]


def test_moved_and_touched_files_are_read_and_not_encoded(catalogue: Path, small_clip: Path, write_manifest: WriteManifest):
    tag(catalogue, small_clip)
    folder = catalogue.parent
    (folder / "0002.png").touch()
    (folder / "0005.png").rename(folder / "new.png")
    names = ["0002.png", "new.png", "0007.png"]
    manifest = write_manifest(names, name="other.parquet")
    summary, found = tag(manifest, small_clip, workers=1)
    assert summary.encoded_images == 0
    assert found == tag(manifest, small_clip, cache=False)[1]


def test_verify_content_reads_what_seems_unchanged(catalogue: Path, small_clip: Path, pictures: Path, monkeypatch):
    """A disk that keeps a file's times when it is written: only its content tells."""
    monkeypatch.setattr(versions, "VERSION", SimpleNamespace(pack=lambda *_: b"always the same"))
    tag(catalogue, small_clip)
    shutil.copy(pictures / "0501.png", catalogue.parent / "0003.png")
    assert tag(catalogue, small_clip)[0].encoded_images == 0
    summary, found = tag(catalogue, small_clip, verify_content=True)
    assert summary.encoded_images == 1
    assert tag(catalogue, small_clip)[1] == found == tag(catalogue, small_clip, cache=False)[1]


@pytest.mark.parametrize("cache", [None, False])
def test_an_image_that_comes_twice_is_encoded_once(
    pictures: Path, small_clip: Path, write_manifest: WriteManifest, cache: bool | None
):
    names = [f"{number % 40:04d}.png" for number in range(200)]
    data = [(pictures / name).read_bytes() for name in names]
    manifest = write_manifest(data, image_column="image")
    summary, _ = tag(manifest, small_clip, cache=cache)
    assert (summary.tagged, summary.encoded_images) == (200, 40)
    labels = summary.read()["category_label"].to_pylist()
    assert labels[:40] * 5 == labels


def test_a_cache_that_is_lost_or_damaged_changes_nothing(catalogue: Path, small_clip: Path, tmp_path: Path, caplog):
    _, expected = tag(catalogue, small_clip)
    (file,) = (tmp_path / "cache").rglob("embeddings.sqlite")
    with closing(sqlite3.connect(file)) as db, db:
        db.execute("UPDATE embeddings SET vector = zeroblob(length(vector)) WHERE id % 2")
    for workers in (0, 1):
        summary, found = tag(catalogue, small_clip, workers=workers)
        assert found == expected
        assert summary.encoded_images == (0 if workers else COUNT // 2)
    for rest in file.parent.glob("*-wal"):  # there, and enough to restore the file, where a decoding process ended late
        rest.unlink()
    file.write_bytes(b"damaged" * 1000)
    assert tag(catalogue, small_clip)[1] == expected
    assert [message for message in caplog.messages if "made anew" in message]


def test_a_format_that_is_no_longer_allowed_is_not_remembered(tmp_path: Path, small_clip: Path, write_manifest: WriteManifest):
    Image.linear_gradient("L").save(tmp_path / "a.gif")
    manifest = write_manifest(["a.gif"])
    assert tag(manifest, small_clip, allow_formats=["GIF"])[0].tagged == 1
    assert tag(manifest, small_clip)[0].errors == {"not-an-image": 1}


def test_fp32_embeddings_are_kept_as_such(catalogue: Path, small_clip: Path):
    config = {"model": {"name": str(small_clip), "precision": "fp32"}}
    exact = tagger.run(catalogue, config, machine=tagger.Machine(workers=0), labels=LABELS).read()
    tagger.run(
        catalogue, config, output=tagger.Output(report=False, overwrite=True), machine=tagger.Machine(workers=0), labels=LABELS
    )
    again = tagger.run(
        catalogue, config, output=tagger.Output(report=False, overwrite=True), machine=tagger.Machine(workers=0), labels=LABELS
    )
    assert again.encoded_images == 0
    assert again.read().equals(exact)
    rounded = tag(catalogue, small_clip)[0].read()
    assert rounded["category_label"].equals(exact["category_label"])
    assert not rounded["category_confidence"].equals(exact["category_confidence"])
