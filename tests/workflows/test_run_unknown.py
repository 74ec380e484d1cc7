"""A run that finds images that are none of the labels, by prompts and by labelled strangers."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest

import tagger
from tagger.core.errors import ConfigError, GateError
from tagger.tagging.calibration import Calibration
from tests.conftest import SAMPLE

LABELS = ["shirt", "dress"]
ATTRIBUTE = {"name": "kind", "labels": LABELS, "truth_column": "truth", "unknown": True}


@pytest.fixture(scope="module")
def manifest(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """120 pictures of the sample catalogue with their truth."""
    folder = tmp_path_factory.mktemp("unknown")
    table = pq.read_table(SAMPLE / "manifest.parquet")
    table = table.filter(pc.is_valid(table["category"])).slice(0, 120)
    path = folder / "manifest.parquet"
    pq.write_table(pa.table({"image_path": table["image_path"], "truth": table["category"]}), path)
    return path


def run(
    manifest: Path, name: str, batch_size: int = 32, gates: dict[str, float] | None = None, **settings: object
) -> tagger.RunSummary:
    return tagger.run(
        manifest,
        {"attribute": [{**ATTRIBUTE, **settings}], "gates": gates or {}},
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


def calibrate(manifest: Path, calibration: Path, **settings: object) -> Calibration:
    content = tagger.calibrate(
        manifest,
        calibration,
        {"attribute": [{**ATTRIBUTE, **settings}]},
        overwrite=True,
        machine=tagger.Machine(workers=0),
        model=str(SAMPLE / "model"),
        image_root=str(SAMPLE / "images"),
        cache=False,
    )
    return content.attributes["kind"]


def test_labelled_strangers_choose_the_score_and_its_threshold(manifest: Path, caplog: pytest.LogCaptureFixture):
    caplog.set_level("INFO")
    calibration = manifest.parent / "calibration.json"
    fitted = calibrate(manifest, calibration).unknown
    assert "left out" not in caplog.text  # each of the rows has a truth value, and teaches something
    assert fitted is not None
    assert fitted.recall >= 0.95
    assert fitted.strangers + fitted.known == 120
    summary = run(manifest, "c", calibration=str(calibration))
    known = summary.read()["kind_known"].to_numpy()
    labels = summary.read()["kind_label"]
    assert pc.is_null(labels).to_numpy().tolist() == (known < np.float32(fitted.below)).tolist()
    with pytest.raises(ConfigError, match="negative_labels as they are set, found one made with other negative_labels"):
        run(manifest, "d", calibration=str(calibration), negative_labels=["bag"])


def test_a_night_that_takes_nearly_all_for_unknown_does_not_pass_a_gate_on_accuracy(manifest: Path):
    calibration = manifest.parent / "calibration.json"
    calibrate(manifest, calibration)
    content = json.loads(calibration.read_text())
    scores = run(manifest, "e", calibration=str(calibration)).read().filter(pc.is_in(pc.field("truth"), pa.array(LABELS)))
    content["attributes"]["kind"]["unknown"]["below"] = pc.max(scores["kind_known"]).as_py()
    calibration.write_text(json.dumps(content))
    with pytest.raises(GateError, match="rows whose truth is a label were taken for unknown and are left out; expected at most"):
        run(manifest, "f", calibration=str(calibration), gates={"min_accuracy": 0.0})


def test_a_head_decides_beside_unknown_and_both_are_calibrated(manifest: Path):
    folder = manifest.parent
    head, calibration = folder / "head.safetensors", folder / "calibration.json"
    options = {"machine": tagger.Machine(workers=0), "model": str(SAMPLE / "model"), "image_root": str(SAMPLE / "images")}
    recipe = tagger.HeadRecipe(method="gda", force=True, hold_out=0.5)
    tagger.train_head(manifest, head, {"attribute": [ATTRIBUTE]}, recipe=recipe, cache=False, **options)
    fitted = calibrate(manifest, calibration, head=str(head))
    assert list(fitted.sources) == ["head"]
    without = calibrate(manifest, folder / "without head.json")
    assert fitted.unknown == without.unknown  # of the embeddings, whoever decides
    found = run(manifest, "g", head=str(head), calibration=str(calibration)).read()
    plain = run(manifest, "h", calibration=str(folder / "without head.json")).read()
    assert found["kind_known"].equals(plain["kind_known"])
    unknown = pc.less(found["kind_known"], np.float32(fitted.unknown.below))
    assert pc.is_null(found["kind_label"]).equals(unknown)
    assert 0 < pc.sum(unknown).as_py() < len(found)
    assert found["kind_source"].unique().to_pylist() == ["head"]
    assert not found["kind_top"].equals(plain["kind_top"])
