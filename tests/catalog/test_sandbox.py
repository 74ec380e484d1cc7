"""Files are read in another process first: once, however its starter and its waiter write their names."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tagger.catalog import sandbox
from tagger.catalog.sandbox import read_elsewhere, start_reading
from tagger.core.errors import ManifestError


@pytest.fixture(autouse=True)
def nothing_started(monkeypatch: pytest.MonkeyPatch) -> None:
    """Other tests may have started to read what they did not wait for."""
    monkeypatch.setattr(sandbox, "_started", {})


@pytest.fixture
def manifest(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "night").mkdir()
    path = tmp_path / "night" / "manifest.parquet"
    pq.write_table(pa.table({"image": ["a.jpg"]}), path)
    monkeypatch.chdir(tmp_path)
    return path


@pytest.mark.parametrize("name", ["night/manifest.parquet", "./night//manifest.parquet"])
def test_what_was_started_by_one_name_is_awaited_by_another(manifest: Path, name: str):
    start_reading(name)
    (started,) = sandbox._started.values()
    read_elsewhere(manifest)
    assert (started.returncode, sandbox._started) == (0, {})


def test_a_folder_and_a_glob_may_be_named_in_two_ways_too(manifest: Path):
    for name, other in (("night/", manifest.parent), ("night/*.parquet", f"{manifest.parent}/*.parquet")):
        start_reading(name)
        (started,) = sandbox._started.values()
        read_elsewhere(other)
        assert started.returncode == 0


def test_a_name_that_leads_elsewhere_through_a_link_is_another_file(manifest: Path, tmp_path: Path):
    (tmp_path / "night" / "deep").mkdir()
    (tmp_path / "link").symlink_to("night/deep")
    (tmp_path / "manifest.parquet").write_bytes(b"torn")
    start_reading("link/../manifest.parquet")
    with pytest.raises(ManifestError, match="manifest.parquet: expected a readable Parquet file, found"):
        read_elsewhere("manifest.parquet")
    read_elsewhere("link/../manifest.parquet")  # night/manifest.parquet
