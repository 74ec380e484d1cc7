"""A model of every kind goes through all that a CLIP does: head, calibration, fallback, cache, report, several processes, Ray."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

import tagger
from tagger import HeadRecipe, Machine, Output
from tests.helpers.checkpoints import MAKERS, OPEN_CLIP
from tests.helpers.many_shards import write_many_shards
from tests.training.test_resnet18 import LABELS, PICTURES, checkpoint, labelled

__all__ = ["checkpoint", "labelled"]  # fixtures

LOCAL = Machine(workers=0)


@pytest.fixture(scope="module")
def cluster() -> Iterator[str]:
    from ray.cluster_utils import Cluster

    made = Cluster(initialize_head=True, head_node_args={"num_cpus": 1})
    yield made.address
    made.shutdown()


@pytest.mark.parametrize("kind", [*MAKERS, *OPEN_CLIP])
def test_a_model_of_any_kind(kind: str, labelled: Path, checkpoint: Path, cluster: str, tmp_path: Path):
    model = (MAKERS | OPEN_CLIP)[kind](tmp_path / "model")
    attribute: dict[str, Any] = {"name": "category", "labels": LABELS, "truth_column": "category"}
    config: dict[str, Any] = {
        "attribute": [attribute],
        "model": {"name": str(model), "precision": "fp32"},  # where auto tries another, every process encodes a few for that
        "manifest": {"image_root": str(PICTURES)},
        "cache": {"folder": str(tmp_path / "cache")},
    }
    rows = pq.read_table(labelled, columns=["image_path", "category"])
    manifest = write_many_shards(tmp_path / "m.parquet", rows["image_path"].to_pylist(), category=rows["category"].to_pylist())
    # A model of random weights is no better with a head, or hardly: here it only has to be used.
    recipe = HeadRecipe(method="gda", force=True, hold_out=0.4)
    tagger.train_head(manifest, tmp_path / "head.safetensors", config, recipe=recipe, machine=LOCAL)
    attribute["head"] = str(tmp_path / "head.safetensors")
    config["fallback"] = {"checkpoint": str(checkpoint), "below": 0.9}
    tagger.calibrate(manifest, tmp_path / "calibration.json", config, machine=LOCAL)
    attribute["calibration"] = str(tmp_path / "calibration.json")
    for name in ("one", "again", "two", "ray"):
        (tmp_path / name).mkdir()
    summary = tagger.run(manifest, config, output=Output(path=tmp_path / "one" / "out.parquet"), machine=LOCAL)
    assert (summary.rows, summary.encoded_images, summary.errors) == (
        95,
        0,
        {"truncated": 1},
    )  # by the head's training all are known
    assert summary.confidence == {"category": "calibrated"}
    assert (tmp_path / "one" / "out.run" / "report.html").exists()

    config["cache"] = {"enabled": False}
    expected = (tmp_path / "one" / "out.parquet").read_bytes()
    machines = {"again": LOCAL, "two": Machine(devices=("cpu", "cpu"), workers=0)}
    machines["ray"] = Machine(engine="ray", ray_address=cluster, ray_workers=1, workers=0)
    for name, machine in machines.items():
        out = tmp_path / name / "out.parquet"
        summary = tagger.run(manifest, config, output=Output(path=out, report=False), machine=machine)
        assert summary.encoded_images == 94, name
        assert out.read_bytes() == expected, name
