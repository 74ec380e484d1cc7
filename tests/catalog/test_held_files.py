"""A manifest's files, as they were when they were opened."""

from __future__ import annotations

import os
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tagger.catalog.held_files import HELD
from tagger.catalog.manifest import Manifest, open_manifest
from tagger.core.errors import StoppedError

BEFORE, AFTER = ["a.png", "b.png"], ["c.png", "d.png"]


def write(path: Path, images: list[str]) -> Path:
    pq.write_table(pa.table({"image": images}), path)
    return path


def read(manifest: Manifest) -> list[str]:
    return [name for _, table in manifest.read(manifest.shards()) for name in table["image"].to_pylist()]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return write(tmp_path / "m.parquet", BEFORE)


def test_a_file_that_is_replaced_or_removed_is_read_as_it_was(path: Path, tmp_path: Path):
    manifest = open_manifest(str(path))
    digest = manifest.digests[0]
    write(tmp_path / "other.parquet", AFTER).replace(path)
    assert read(manifest) == BEFORE
    manifest.held.require_unchanged()
    assert not manifest.held.is_still(path, digest)
    path.unlink()
    assert read(manifest) == BEFORE
    assert not manifest.held.is_still(path, digest)


@pytest.mark.parametrize("change", ["truncated", "appended", "rewritten"])
def test_a_file_that_is_written_into_stops_the_run(path: Path, tmp_path: Path, change: str):
    manifest = open_manifest(str(path))
    if change == "truncated":
        os.truncate(path, 10)
    elif change == "appended":
        with path.open("ab") as file:
            file.write(b"more")
    else:
        os.utime(path, ns=(0, 1))
        path.write_bytes(write(tmp_path / "other.parquet", AFTER).read_bytes())
    for use in (
        read,
        lambda one: list(one.column("image")),
        lambda one: one.content_hash(),
        lambda one: one.held.require_unchanged(),
    ):
        with pytest.raises(StoppedError, match=f"^{path}: expected the file that was there when it was opened, found it changed"):
            use(manifest)


def test_other_rights_do_not_make_another_file_and_times_set_back_do_not_hide_one(path: Path, tmp_path: Path):
    manifest = open_manifest(str(path))
    digest, times = manifest.digests[0], path.stat().st_mtime_ns
    path.chmod(0o600)
    assert manifest.held.is_still(path, digest)
    other = write(tmp_path / "other.parquet", AFTER).read_bytes()
    assert len(other) == path.stat().st_size
    path.write_bytes(other)
    os.utime(path, ns=(times, times))
    assert not manifest.held.is_still(path, digest)


def test_of_many_files_the_last_are_opened_again_and_must_be_the_same(tmp_path: Path):
    folder = tmp_path / "night"
    folder.mkdir()
    for number in range(HELD + 2):
        write(folder / f"{number:03d}.parquet", [f"{number}.png"])
    manifest = open_manifest(str(folder))
    assert read(manifest) == [f"{number}.png" for number in range(HELD + 2)]
    write(tmp_path / "other.parquet", AFTER).replace(folder / f"{HELD:03d}.parquet")
    with pytest.raises(StoppedError, match=f"{HELD:03d}.parquet: expected the file that was there"):
        read(manifest)


def open_files() -> int:
    return len(list(Path("/dev/fd").iterdir()))


def test_files_are_closed_with_the_manifest(path: Path):
    before = open_files()
    manifest = open_manifest(str(path))
    assert open_files() == before + 1
    del manifest
    assert open_files() == before
