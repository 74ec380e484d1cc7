"""A run killed at every step of the commit path, run again, writes what an uninterrupted run writes."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tagger.catalog.results import FAILPOINTS

SETTINGS = '[[attribute]]\nname = "kind"\nlabels = ["shirt", "dress", "shoes"]\ntruth_column = "kind"\n'
SCRIPT = """
import sys, tagger.catalog.manifest as manifest
manifest.MAX_SHARD_ROWS = 64  # several shards, so that some are done and some are not
from tagger.cli import main
main()
"""


def tag(folder: Path, model: Path, pictures: Path, failpoint: str = "") -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", SCRIPT, "run", "manifest.parquet", "--overwrite", "--workers", "0"]
    command += ["--model", str(model), "--image-root", str(pictures)]
    environment = {**os.environ, "TAGGER_FAILPOINT": failpoint}
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)


@pytest.fixture(scope="module")
def catalogue(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("crash")
    images = [f"{number:04d}.png" for number in range(150)]
    pq.write_table(pa.table({"image": images, "kind": ["shirt", "dress", None] * 50}), folder / "manifest.parquet")
    (folder / "tagger.toml").write_text(SETTINGS)
    return folder


@pytest.fixture(scope="module")
def uninterrupted(catalogue: Path, small_clip: Path, pictures: Path) -> bytes:
    assert tag(catalogue, small_clip, pictures).returncode == 0
    result = (catalogue / "manifest.tagged.parquet").read_bytes()
    (catalogue / "manifest.tagged.parquet").unlink()
    return result


@pytest.mark.parametrize("failpoint", FAILPOINTS)
def test_a_run_killed_here_and_run_again_writes_the_same_bytes(
    failpoint: str, catalogue: Path, uninterrupted: bytes, small_clip: Path, pictures: Path
):
    output = catalogue / "manifest.tagged.parquet"
    output.unlink(missing_ok=True)
    assert tag(catalogue, small_clip, pictures, failpoint).returncode == -9
    assert not output.exists() or output.read_bytes() == uninterrupted
    again = tag(catalogue, small_clip, pictures)
    assert again.returncode == 0
    assert output.read_bytes() == uninterrupted
    if failpoint == "result-written":  # all parts were there: nothing was encoded again
        assert "continuing: 3 of 3 shards" in again.stderr
