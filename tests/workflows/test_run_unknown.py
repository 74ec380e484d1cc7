"""A run that finds images that are none of the labels, by prompts and by labelled strangers."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest

import tagger
from tagger.core.errors import ConfigError
from tests.conftest import SAMPLE

ATTRIBUTE = {"name": "kind", "labels": ["shirt", "dress"], "truth_column": "truth", "unknown": True}


@pytest.fixture(scope="module")
def manifest(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """120 pictures of the sample catalogue with their truth."""
    folder = tmp_path_factory.mktemp("unknown")
    table = pq.read_table(SAMPLE / "manifest.parquet")
    table = table.filter(pc.is_valid(table["category"])).slice(0, 120)
    path = folder / "manifest.parquet"
    pq.write_table(pa.table({"image_path": table["image_path"], "truth": table["category"]}), path)
    return path


def run(manifest: Path, name: str, batch_size: int = 32, **settings: object) -> tagger.RunSummary:
    return tagger.run(
        manifest,
        {"attribute": [{**ATTRIBUTE, **settings}]},
        output=tagger.Output(report=False, path=manifest.parent / f"{name}.parquet", overwrite=True),
        machine=tagger.Machine(workers=0, batch_size=batch_size),
        model=str(SAMPLE / "model"),
        image_root=str(SAMPLE / "images"),
        cache=False,
    )


def test_what_fits_no_label_gets_none_and_says_its_score(manifest: Path):
    summary = run(manifest, "a", negative_labels=["bag", "sandal", "trousers"])
    found = summary.read()
    known, label = found["kind_known"].to_numpy(), found["kind_label"]
    unknown = pc.match_substring(pc.fill_null(found["tag_reason"], ""), "unknown: kind ").to_numpy()
    assert 0 < unknown.sum() < len(found)
    assert pc.is_null(label).to_numpy().tolist() == unknown.tolist()
    assert pc.is_null(found["kind_confidence"]).to_numpy().tolist() == unknown.tolist()
    assert np.flatnonzero(unknown).tolist() == np.flatnonzero(known < 0.4).tolist()  # 2 labels of 5
    assert summary.evaluation is not None
    evaluation = summary.evaluation.attributes["kind"]
    assert evaluation.unknown is not None
    assert evaluation.unknown.auroc > 0.7
    assert tagger.evaluate(manifest.parent / "a.parquet").attributes["kind"] == evaluation
    run(manifest, "b", batch_size=7, negative_labels=["bag", "sandal", "trousers"])
    assert (manifest.parent / "a.parquet").read_bytes() == (manifest.parent / "b.parquet").read_bytes()


def test_labelled_strangers_choose_the_score_and_its_threshold(manifest: Path):
    calibration = manifest.parent / "calibration.json"
    content = tagger.calibrate(
        manifest,
        calibration,
        {"attribute": [ATTRIBUTE]},
        overwrite=True,
        machine=tagger.Machine(workers=0),
        model=str(SAMPLE / "model"),
        image_root=str(SAMPLE / "images"),
        cache=False,
    )
    fitted = content.attributes["kind"].unknown
    assert fitted is not None
    assert fitted.recall >= 0.95
    assert fitted.strangers + fitted.known == 120
    summary = run(manifest, "c", calibration=str(calibration))
    known = summary.read()["kind_known"].to_numpy()
    labels = summary.read()["kind_label"]
    assert pc.is_null(labels).to_numpy().tolist() == (known < np.float32(fitted.below)).tolist()
    with pytest.raises(ConfigError, match="negative_labels as they are set, found one made with other negative_labels"):
        run(manifest, "d", calibration=str(calibration), negative_labels=["bag"])
