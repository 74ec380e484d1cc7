"""Devices, shards by hand and Ray: the same bytes as one process writes, with a head and a fallback; and what may go wrong."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import tagger
from tagger import Machine, Output
from tagger.catalog.sketch_files import SKETCHES, read_sketches
from tagger.core.errors import StoppedError, UsageError
from tagger.encoders.clip import ClipEncoder
from tagger.workflows.merge import merge
from tagger.workflows.shard import tag_shard
from tests.helpers.many_shards import write_many_shards
from tests.helpers.pictures import is_whole
from tests.training.test_resnet18 import LABELS, PICTURES, checkpoint, labelled
from tests.workflows.test_run_head import write_head

__all__ = ["checkpoint", "labelled"]  # fixtures

ROWS = 300  # five shards
WHOLE = [path.name for path in sorted(PICTURES.glob("*.png")) if is_whole(path)]
LOCAL = Machine(workers=1)


@pytest.fixture(scope="module")
def job(tmp_path_factory: pytest.TempPathFactory, encoder: ClipEncoder, checkpoint: Path) -> tuple[Path, dict[str, Any]]:
    """A manifest of several shards, one of its images missing, and settings with a head and a fallback."""
    folder = tmp_path_factory.mktemp("job")
    images = [WHOLE[row] if row != 150 else "none.png" for row in range(ROWS)]
    manifest = write_many_shards(folder / "manifest.parquet", images)
    attribute = {"name": "category", "labels": LABELS, "head": str(write_head(folder / "head.safetensors", encoder))}
    return manifest, {
        "attribute": [attribute],
        "fallback": {"checkpoint": str(checkpoint), "below": 0.9},
        # Where auto tries another precision, every process encodes a few images for that.
        "model": {"name": str(PICTURES.parent / "model"), "precision": "fp32"},
        "manifest": {"image_root": str(PICTURES)},
        "cache": {"enabled": False},
    }


@pytest.fixture(scope="module")
def expected(job, tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """What one process writes."""
    out = tmp_path_factory.mktemp("one") / "out.parquet"
    summary = tagger.run(*job, output=Output(path=out, report=False), machine=LOCAL)
    assert summary.errors == {"missing": 1}
    assert summary.fallback_images > 0
    return out.read_bytes()


@pytest.fixture(scope="module")
def cluster() -> Iterator[str]:
    """A Ray cluster of two nodes; its address."""
    from ray.cluster_utils import Cluster

    made = Cluster(initialize_head=True, head_node_args={"num_cpus": 1})
    made.add_node(num_cpus=1)
    yield made.address
    made.shutdown()


def test_two_devices(job, expected: bytes, tmp_path: Path):
    out = tmp_path / "out.parquet"
    summary = tagger.run(*job, output=Output(path=out), machine=Machine(devices=("cpu", "cpu"), workers=1))
    assert out.read_bytes() == expected
    assert (summary.rows, summary.encoded_images, summary.errors) == (ROWS, ROWS - 1, {"missing": 1})
    assert (tmp_path / "out.run" / "report.html").exists()
    sketches = read_sketches(tmp_path / "out.run" / SKETCHES, ROWS)
    assert sketches is not None
    assert np.flatnonzero(np.isnan(sketches).any(1)).tolist() == [150]  # the missing image


def test_shards_by_hand(job, expected: bytes, tmp_path: Path):
    out = tmp_path / "out.parquet"
    for number in (3, 1, 2):
        devices = ("cpu",) if number == 2 else None
        tag_shard(*job, output=Output(path=out, shard=(number, 3)), machine=Machine(devices=devices, workers=1))
    assert merge(out, report=False).published
    assert out.read_bytes() == expected


def test_ray(job, expected: bytes, tmp_path: Path, cluster: str):
    out = tmp_path / "out.parquet"
    machine = Machine(engine="ray", ray_address=cluster, workers=1)
    summary = tagger.run(*job, output=Output(path=out, report=False), machine=machine)
    assert out.read_bytes() == expected
    assert (summary.rows, summary.encoded_images, summary.errors) == (ROWS, ROWS - 1, {"missing": 1})


@pytest.mark.parametrize(
    ("address", "error", "line"),
    [
        ("127.0.0.1:1", StoppedError, "expected a Ray cluster, found: Connection refused"),
        ("ray://127.0.0.1:1", UsageError, "expected HOST:PORT"),
    ],
)
def test_a_cluster_that_does_not_answer(job, tmp_path: Path, address: str, error: type[Exception], line: str):
    machine = Machine(engine="ray", ray_address=address)
    with pytest.raises(error, match=f"--ray-address {address}: {line}"):
        tagger.run(*job, output=Output(path=tmp_path / "out.parquet", report=False), machine=machine)


def test_when_all_processes_die_the_run_stops_and_the_same_command_continues(job, expected: bytes, tmp_path: Path):
    manifest, config = job
    script = (
        "import sys, tagger; from tagger import Machine, Output\n"
        f"tagger.run({str(manifest)!r}, {config!r}, output=Output(path='out.parquet', report=False), "
        "machine=Machine(devices=('cpu', 'cpu'), workers=1))"
    )
    environment = {**os.environ, "TAGGER_FAILPOINT": "part-renamed"}
    died = subprocess.run([sys.executable, "-c", script], env=environment, capture_output=True, text=True, check=False)
    assert "StoppedError: cpu (process" in died.stderr
    assert "ended with exit code -9, and no other process is left" in died.stderr
    parts = list((tmp_path / "out.run" / "parts").glob("*.parquet"))
    assert len(parts) == 2
    assert not (tmp_path / "out.parquet").exists()
    summary = tagger.run(*job, output=Output(path=tmp_path / "out.parquet", report=False), machine=LOCAL)
    assert summary.encoded_images < ROWS - 1
    assert (tmp_path / "out.parquet").read_bytes() == expected


def test_a_device_that_is_not_there(job, tmp_path: Path):
    with pytest.raises(tagger.core.errors.TaggerError, match="cuda:93"):
        tagger.run(*job, output=Output(path=tmp_path / "out.parquet", report=False), machine=Machine(devices=("93",)))
    assert not (tmp_path / "out.parquet").exists()


def test_all_devices_are_gpus(job, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("torch.cuda.device_count", lambda: 0)
    with pytest.raises(UsageError, match="expected GPUs, found none"):
        tagger.run(*job, output=Output(path=tmp_path / "out.parquet", report=False), machine=Machine(devices=("all",)))


@pytest.mark.parametrize(
    "options",
    [
        {"devices": ("cpu",), "device": "cpu"},
        {"devices": ("cpu",), "engine": "ray"},
        {"ray_address": "127.0.0.1:1"},
        {"ray_workers": 2},
    ],
)
def test_options_that_exclude_each_other(options: dict[str, Any]):
    with pytest.raises(UsageError, match="expected"):
        Machine(**options)
