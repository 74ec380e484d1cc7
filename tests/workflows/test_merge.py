"""Shards that are tagged by hand become the same result as one run, or the merge names what is wrong."""

from __future__ import annotations

from pathlib import Path

import pytest

import tagger
from tagger.core.errors import GateError, StoppedError, UsageError
from tagger.settings.options import Output
from tagger.workflows.merge import merge
from tagger.workflows.shard import tag_shard


@pytest.fixture
def job(monkeypatch: pytest.MonkeyPatch, small_clip: Path, pictures: Path, write_manifest):
    """A manifest of five shards of two rows, and the options that tag it."""
    monkeypatch.setattr("tagger.catalog.manifest.Manifest.shard_rows", 2)
    labels = ["shirt", "dress", "shoes"]
    manifest = write_manifest([f"{number:04d}.png" for number in range(9)] + ["none.png"])
    return manifest, {"labels": labels, "model": small_clip, "image_root": pictures, "cache": False, "precision": "fp32"}


def tag(job, out: Path, number: int, count: int, **changed):
    manifest, options = job
    return tag_shard(manifest, output=Output(path=out, shard=(number, count)), **{**options, **changed})


@pytest.mark.parametrize("count", [1, 3, 16])
def test_merged_shards_are_the_bytes_of_one_run(job, tmp_path: Path, count: int):
    manifest, options = job
    tagger.run(manifest, output=Output(path=tmp_path / "one.parquet", report=False), **options)
    out = tmp_path / "out.parquet"
    for number in range(count, 0, -1):
        tag(job, out, number, count)
        assert not out.exists()
    summary = merge(out)
    assert out.read_bytes() == (tmp_path / "one.parquet").read_bytes()
    assert (summary.rows, summary.encoded_images, summary.errors["missing"]) == (10, 9, 1)
    assert (tmp_path / "out.run" / "report.html").exists()
    assert not (tmp_path / "out.run" / "shards").exists()
    with pytest.raises(UsageError, match="found none"):
        merge(out, overwrite=True)


def test_a_shard_that_is_run_again_encodes_nothing_and_changes_no_byte(job, tmp_path: Path):
    out = tmp_path / "out.parquet"
    tag(job, out, 2, 2)
    before = {path: path.read_bytes() for path in (tmp_path / "out.run" / "shards").rglob("*.parquet")}
    assert before
    assert tag(job, out, 2, 2).encoded_images == 0
    assert {path: path.read_bytes() for path in before} == before


def test_missing_shards_are_named(job, tmp_path: Path):
    out = tmp_path / "out.parquet"
    tag(job, out, 2, 3)
    with pytest.raises(StoppedError, match="found none of 1/3, 3/3"):
        merge(out)
    next((tmp_path / "out.run" / "shards").rglob("parts/*.parquet")).unlink()
    with pytest.raises(StoppedError, match="found none of 1/3, 2/3, 3/3"):
        merge(out)
    for number in (1, 2, 3):
        tag(job, out, number, 3)
    assert merge(out).published


def test_shards_of_another_job_are_named(job, tmp_path: Path):
    out = tmp_path / "out.parquet"
    tag(job, out, 2, 2, labels=["bag", "hat"])
    tag(job, out, 1, 2)
    with pytest.raises(StoppedError, match=r"found none of 2/2; 2/2 is of another job"):
        merge(out)


def test_doubled_shards_are_named_and_taken_once(job, tmp_path: Path, caplog):
    out = tmp_path / "out.parquet"
    for number, count in ((1, 2), (1, 1)):
        tag(job, out, number, count)
    assert merge(out).rows == 10
    assert "as parts of 1 and of 2" in caplog.text


def test_a_failed_gate_writes_the_merged_result_aside(job, tmp_path: Path):
    out = tmp_path / "out.parquet"
    tag(job, out, 1, 1, max_errors=0)
    with pytest.raises(GateError):
        merge(out)
    assert (tmp_path / "out.rejected.parquet").exists()
    assert not out.exists()


@pytest.mark.parametrize("shard", [(0, 2), (3, 2), (1, 0)])
def test_a_shard_out_of_range_is_refused(shard: tuple[int, int]):
    with pytest.raises(UsageError, match="K from 1 to N"):
        Output(shard=shard)


@pytest.mark.parametrize("option", ["in_place", "fresh"])
def test_a_shard_excludes_what_would_remove_other_shards(option: str):
    with pytest.raises(UsageError, match="expected it without"):
        Output(shard=(1, 2), **{option: True})
