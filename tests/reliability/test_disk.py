"""Disks that are full, read-only or gone: one line, nothing published, and the next run continues."""

from __future__ import annotations

import os
import shutil
import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

import tagger
from tagger.catalog import manifest as manifests
from tagger.core.errors import StoppedError

SAMPLE = Path(__file__).parents[2] / "sample_catalog"
ROWS = 192


@pytest.fixture(autouse=True)
def _small_shards(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(manifests, "MAX_SHARD_ROWS", 64)


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """Mount a file system of 64 KiB in memory."""
    folder = tmp_path / "disk"
    folder.mkdir()
    if os.geteuid() or mount("-t", "tmpfs", "-o", "size=64k", "tmpfs", folder).returncode:
        pytest.skip("only root may mount a file system here")
    yield folder
    # Lazily: a process of the run that has not ended yet may still hold a file there.
    subprocess.run(["umount", "--lazy", str(folder)], check=True)


def mount(*options: object) -> subprocess.CompletedProcess[bytes]:
    return subprocess.run(["mount", *map(str, options)], capture_output=True, check=False)


def tag(output: Path) -> bytes:
    return tagger.run(
        SAMPLE / "manifest.parquet",
        output=tagger.Output(report=False, path=output, limit=ROWS),
        machine=tagger.Machine(workers=0),
    ).output.read_bytes()


def must_stop(output: Path, found: str) -> None:
    with pytest.raises(StoppedError, match=found) as error:
        tag(output)
    assert "nothing was published" in str(error.value)
    assert "\n" not in str(error.value)
    assert not output.exists()


def test_a_full_disk_stops_the_run_and_the_next_continues_when_there_is_room(disk: Path, tmp_path: Path, caplog):
    must_stop(disk / "out.parquet", "No space left on device")
    parts = list((disk / "out.run" / "parts").glob("*.parquet"))
    assert mount("-o", "remount,size=8m", disk).returncode == 0
    caplog.set_level("INFO", "tagger")
    assert tag(disk / "out.parquet") == tag(tmp_path / "out.parquet")
    assert any(f"continuing: {len(parts)} of 3 shards" in message for message in caplog.messages) == bool(parts)


def test_a_read_only_disk_stops_the_run_before_the_model_is_loaded(disk: Path):
    assert mount("-o", "remount,ro", disk).returncode == 0
    began = time.process_time()
    must_stop(disk / "out.parquet", "Read-only file system")
    assert time.process_time() - began < 1


def test_a_file_in_the_place_of_the_run_folder_is_named(tmp_path: Path):
    (tmp_path / "out.run").touch()
    must_stop(tmp_path / "out.parquet", f"File exists: {tmp_path / 'out.run'}")


def test_an_output_folder_that_vanishes_stops_the_run(tmp_path: Path):
    folder = tmp_path / "gone"
    folder.mkdir()

    def remove() -> None:
        while not list(folder.glob("out.run/parts/*.parquet")):
            time.sleep(0.001)
        folder.rename(tmp_path / "elsewhere")

    remover = threading.Thread(target=remove)
    remover.start()
    must_stop(folder / "out.parquet", "No such file or directory")
    remover.join()
    shutil.rmtree(tmp_path / "elsewhere")
