"""`tagger calibrate`, and runs that use what it wrote."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jsonschema import Draft202012Validator

import tagger
from tagger.core.errors import ConfigError, ManifestError
from tagger.encoders.clip import ClipEncoder
from tagger.encoders.remembered_clip import RememberedClip
from tagger.evaluation.confidence import confidence_metrics, risk_coverage
from tagger.evaluation.guarantee import Judged
from tagger.tagging.calibration import Calibration
from tagger.training.ensemble import choose_weight
from tagger.training.temperature import fit_temperature, softmax
from tests.conftest import SAMPLE
from tests.helpers.keywords import machine_keywords
from tests.reports.test_summary import SCHEMA
from tests.training.test_resnet18 import ATTRIBUTE, CONFIG, LABELS, checkpoint, labelled

__all__ = ["checkpoint", "labelled"]  # fixtures

MODEL = SAMPLE / "model"


def tag(labelled: Path, tmp_path: Path, calibration: Path | None, **sections: Any) -> tagger.RunSummary:
    attribute = ATTRIBUTE if calibration is None else {**ATTRIBUTE, "calibration": str(calibration)}
    attribute = {**attribute, **sections.pop("of_attribute", {})}
    model = sections.pop("model", MODEL)
    config = {**CONFIG, "attribute": [attribute], **sections}
    return tagger.run(
        labelled,
        config,
        output=tagger.Output(report=False, path=tmp_path / "tagged.parquet", overwrite=True),
        machine=tagger.Machine(workers=0),
        model=model,
    )


def calibrate(labelled: Path, tmp_path: Path, **options: Any) -> tuple[Path, Calibration]:
    path = tmp_path / "calibration.json"
    config = {**CONFIG, **options.pop("sections", {})}
    content = tagger.calibrate(
        labelled, path, config, overwrite=True, **machine_keywords(**{"model": MODEL, "workers": 0, **options})
    )
    return path, content.attributes["category"]


def test_a_run_divides_by_the_temperature_and_reviews_below_the_threshold(labelled: Path, tmp_path: Path):
    path, calibration = calibrate(labelled, tmp_path, target=tagger.Target(precision=0.9))
    assert calibration.review_below is not None
    plain = tag(labelled, tmp_path, None)
    untouched = plain.read()
    calibrated = tag(labelled, tmp_path, path)
    temperature = calibration.sources["clip"].temperature
    assert temperature != 1
    for before, after in zip(untouched.to_pylist(), calibrated.read().to_pylist(), strict=True):
        if before["tag_status"] == "error":
            continue
        assert after["category_label"] == before["category_label"]
        found = {item["label"]: item["confidence"] for item in after["category_top"]}
        raw = {item["label"]: np.log(item["confidence"]) / temperature for item in before["category_top"]}
        total = sum(map(np.exp, raw.values()))
        assert found == pytest.approx({label: np.exp(value) / total for label, value in raw.items()}, abs=1e-5)
        assert (after["tag_status"] == "review") == (after["category_confidence"] < calibration.review_below)
    assert (plain.confidence, calibrated.confidence) == ({"category": "uncalibrated"}, {"category": "calibrated"})
    assert "confidence: uncalibrated (category)" in plain.to_text()
    assert "uncalibrated" not in calibrated.to_text()
    promised = {"target": 0.9, "confidence": 0.9, "per_label": False, "rows": calibration.held_out_rows}
    assert (plain.guarantees, calibrated.guarantees) == ({}, {"category": {"precision": promised}})
    Draft202012Validator(SCHEMA).validate(json.loads(calibrated.to_json()))
    assert "precision of category where it needs no review: 0.9 or more, with confidence 0.9" in calibrated.to_text()
    own = tag(labelled, tmp_path, path, of_attribute={"review_below": 0.0})
    assert (own.review, own.guarantees) == (0, {})


def test_a_label_without_a_threshold_goes_to_review(labelled: Path, tmp_path: Path):
    path, calibration = calibrate(labelled, tmp_path, target=tagger.Target(precision=0.5, per_label=True))
    assert set(calibration.review_below_by_label) == set(LABELS)
    content = json.loads(path.read_text())
    del content["attributes"]["category"]["review_below_by_label"]["bag"]
    path.write_text(json.dumps(content))
    summary = tag(labelled, tmp_path, path)
    tagged, expected = summary.read().to_pylist(), {**calibration.review_below_by_label, "bag": math.inf}
    rows = [row for row in tagged if row["tag_status"] != "error"]
    assert [row["tag_status"] == "review" for row in rows] == [
        row["category_confidence"] < expected[row["category_label"]] for row in rows
    ]
    assert summary.guarantees["category"]["precision"]["per_label"]
    Draft202012Validator(SCHEMA).validate(json.loads(summary.to_json()))


def test_rows_that_are_too_few_choose_nothing(labelled: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture):
    path, calibration = calibrate(labelled, tmp_path, target=tagger.Target(precision=0.99))
    assert (calibration.review_below, calibration.review_below_by_label) == (None, {})
    assert "expected at least 230 held-out rows that are all right, found" in caplog.text
    summary = tag(labelled, tmp_path, path)
    assert (summary.review, summary.guarantees) == (0, {})


SETS = {"prediction_sets": 0.95}
WITH_SETS = {"attribute": [{**ATTRIBUTE, **SETS}]}


def test_a_set_has_the_labels_that_are_as_probable_as_the_calibration_wants(labelled: Path, tmp_path: Path):
    path, calibration = calibrate(labelled, tmp_path, sections=WITH_SETS)
    sets = calibration.prediction_sets
    assert sets is not None
    assert sets.threshold is not None
    assert (sets.coverage, sets.rows, sets.fallback_threshold) == (0.95, calibration.held_out_rows, None)
    plain = tag(labelled, tmp_path, path).read()
    summary = tag(labelled, tmp_path, path, of_attribute=SETS)
    table = summary.read()
    assert [name for name in table.column_names if name not in plain.column_names] == ["category_set"]
    assert table.drop_columns(["category_set"]).equals(plain)
    for row in table.to_pylist():
        if row["tag_status"] == "error":
            assert row["category_set"] is None
            continue
        best, *others = [(item["label"], item["confidence"]) for item in row["category_top"]]
        assert row["category_set"] == [best[0], *(name for name, value in others if value >= sets.threshold)]
    assert summary.guarantees == {"category": {"sets": {"coverage": 0.95, "rows": sets.rows}}}
    assert (
        f"sets of category that hold the right label: 0.95, on average over calibrations on {sets.rows} rows" in summary.to_text()
    )
    Draft202012Validator(SCHEMA).validate(json.loads(summary.to_json()))
    assert summary.evaluation is not None
    found = summary.evaluation.attributes["category"].sets
    held = [row["category"] in row["category_set"] for row in table.to_pylist() if row["category_set"]]
    assert found is not None
    assert (found.coverage, found.target_coverage) == (sum(held) / len(held), 0.95)
    assert found == tagger.evaluate(summary.output).attributes["category"].sets


def test_sets_are_the_same_bytes_from_the_cache_and_when_error_rows_are_tried_again(labelled: Path, tmp_path: Path):
    path, _ = calibrate(labelled, tmp_path, sections=WITH_SETS)
    sections = {"of_attribute": SETS, "cache": {"folder": str(tmp_path / "kept")}}
    first = tag(labelled, tmp_path, path, **sections)
    written = Path(first.output).read_bytes()
    again = tag(labelled, tmp_path, path, **sections)
    assert (first.encoded_images > 0, again.encoded_images) == (True, 0)
    assert Path(again.output).read_bytes() == written
    config = {**CONFIG, "attribute": [{**ATTRIBUTE, **SETS, "calibration": str(path)}]}
    where = tagger.Output(report=False, path=tmp_path / "retried.parquet", retry_errors=again.output)
    machine = tagger.Machine(workers=0, batch_size=7)
    retried = tagger.run(labelled, config, output=where, machine=machine, model=MODEL)
    assert retried.read().equals(again.read())
    without = {**CONFIG, "attribute": [{**ATTRIBUTE, "calibration": str(path)}]}
    with pytest.raises(ManifestError, match="found other attributes and taxonomy"):
        tagger.run(labelled, without, output=replace(where, overwrite=True), machine=machine, model=MODEL)


def test_sets_of_too_few_rows_have_all_labels_and_are_not_promised(
    labelled: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
):
    wanted = {"prediction_sets": 0.999}
    path, calibration = calibrate(labelled, tmp_path, sections={"attribute": [{**ATTRIBUTE, **wanted}]})
    rows = calibration.held_out_rows
    assert (
        f'{labelled}: attribute "category": prediction_sets 0.999: expected at least 999 held-out rows, half of the labelled '
        f"ones, found {rows}; every set has all labels, and nothing is promised; label {2 * (999 - rows)} more"
    ) in caplog.messages
    summary = tag(labelled, tmp_path, path, of_attribute=wanted)
    assert summary.guarantees == {}
    assert {len(one) for one in summary.read()["category_set"].to_pylist() if one} == {3}


@pytest.mark.parametrize("mode", ["low-confidence", "ensemble"])
def test_sets_are_of_what_decides(labelled: Path, checkpoint: Path, tmp_path: Path, mode: str):
    fallback = {"checkpoint": str(checkpoint), "mode": mode, "below": 0.9, "on_model_error": True}
    path, calibration = calibrate(labelled, tmp_path, sections={"fallback": fallback, **WITH_SETS})
    sets = calibration.prediction_sets
    assert sets is not None
    for model, threshold in ((MODEL, sets.threshold), (tmp_path / "removed", sets.fallback_threshold)):
        summary = tag(labelled, tmp_path, path, fallback=fallback, model=model, of_attribute=SETS)
        for row in summary.read().to_pylist():
            if row["category_set"]:
                found = [item["label"] for item in row["category_top"] if item["confidence"] >= threshold]
                assert row["category_set"] == (found or [row["category_label"]])
        assert summary.guarantees == {"category": {"sets": {"coverage": 0.95, "rows": sets.rows}}}
        assert summary.evaluation is not None
        of_sets = summary.evaluation.attributes["category"].sets
        assert of_sets is not None
        assert of_sets.coverage > 0.9


@pytest.mark.parametrize(("mode", "sources"), [("low-confidence", ["clip", "resnet18"]), ("ensemble", ["hybrid", "resnet18"])])
def test_each_source_of_a_fallback_has_its_temperature(
    labelled: Path, checkpoint: Path, tmp_path: Path, mode: str, sources: list[str]
):
    fallback = {"checkpoint": str(checkpoint), "mode": mode, "below": 0.9}
    path, calibration = calibrate(labelled, tmp_path, sections={"fallback": fallback})
    assert list(calibration.sources) == sources
    summary = tag(labelled, tmp_path, path, fallback=fallback)
    assert summary.confidence == {"category": "calibrated"}
    with pytest.raises(ConfigError, match=f"expected one made with fallback none, found one made with fallback {mode}"):
        tag(labelled, tmp_path, path)
    alone = tag(labelled, tmp_path, path, fallback={**fallback, "on_model_error": True}, model=tmp_path / "removed")
    assert alone.confidence == {"category": "calibrated"}


def test_a_source_is_fitted_on_its_own_probabilities_alone(labelled: Path, checkpoint: Path, tmp_path: Path):
    """Even on the rows that CLIP is so sure of that the run would not ask."""
    fallback = {"checkpoint": str(checkpoint), "below": 0.01}
    _, behind = calibrate(labelled, tmp_path, sections={"fallback": fallback})
    _, alone = calibrate(labelled, tmp_path, model=checkpoint)
    assert behind.sources["resnet18"] == alone.sources["resnet18"]


def test_a_calibration_is_bound_to_the_prompts_whatever_the_source_is_called(
    labelled: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(ClipEncoder, "source", "clip-of-another-name")
    monkeypatch.setattr(RememberedClip, "source", "clip-of-another-name")
    path, calibration = calibrate(labelled, tmp_path)
    assert list(calibration.sources) == ["clip-of-another-name"]
    assert tag(labelled, tmp_path, path).confidence == {"category": "calibrated"}
    with pytest.raises(ConfigError, match="expected one made for these prompts of clip-of-another-name, found other prompts"):
        tag(labelled, tmp_path, path, of_attribute={"templates": ["The {label}."]})


def test_a_calibration_of_other_labels_weights_or_prompts_is_refused(labelled: Path, tmp_path: Path):
    path, _ = calibrate(labelled, tmp_path)
    with pytest.raises(ConfigError, match="expected one made for these prompts of clip, found other prompts"):
        tag(labelled, tmp_path, path, of_attribute={"templates": ["The {label}."]})
    with pytest.raises(ConfigError, match="expected one made for the labels dress, bag, found one for dress, bag, ankle boot"):
        tag(labelled, tmp_path, path, of_attribute={"labels": ["dress", "bag"]})
    content = json.loads(path.read_text())
    content["attributes"]["category"]["sources"]["clip"]["weights"] = "others"
    for text, message in (
        (json.dumps(content), "expected one made for these weights of clip, found other weights"),
        ("{", "expected JSON, found"),
        ("{}", "expected what `tagger calibrate` writes, found"),
    ):
        path.write_text(text)
        with pytest.raises(ConfigError, match=message):
            tag(labelled, tmp_path, path)
    with pytest.raises(ConfigError, match="expected a readable file"):
        tag(labelled, tmp_path, tmp_path / "none.json")


def test_too_few_rows_are_said(write_manifest, tmp_path: Path):
    manifest = write_manifest([str(SAMPLE / "images" / "0001.png")], category=["dress"])
    with pytest.raises(ManifestError, match="expected at least two labelled, readable rows, found 1; label more"):
        tagger.calibrate(manifest, tmp_path / "c.json", {**CONFIG}, machine=tagger.Machine(workers=0), model=MODEL)
    assert not (tmp_path / "c.json").exists()


@pytest.mark.parametrize("behind", [True, False])
@pytest.mark.parametrize("rows", ["no label", "no image", "none"])
def test_a_manifest_without_a_row_to_fit_on_is_said(
    checkpoint: Path, labelled: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture, rows: str, behind: bool
):
    manifest, table = tmp_path / "manifest.parquet", pq.read_table(labelled)
    column = "category" if rows == "no label" else "image_path"
    values = pa.array([None if rows == "no label" else f"lost/{number}.png" for number in range(len(table))], pa.string())
    table = table.set_column(table.schema.get_field_index(column), column, values)
    pq.write_table(table.slice(0, 0 if rows == "none" else None), manifest)
    sections = {"fallback": {"checkpoint": str(checkpoint), "below": 0.9}} if behind else {}
    with pytest.raises(ManifestError, match="expected at least two labelled, readable rows, found 0; label more"):
        calibrate(manifest, tmp_path, sections=sections)
    left_out = f"images that cannot be read are left out: {len(table)} missing (no file lost/0.png in the image root "
    assert any(message.startswith(left_out) for message in caplog.messages) == (rows == "no image")


@given(st.floats(0.2, 5), st.integers(0, 2**32 - 1))
@settings(max_examples=10, deadline=None)
def test_the_temperature_that_was_put_in_is_found(temperature: float, seed: int):
    random = np.random.default_rng(seed)
    logits = random.normal(size=(4000, 3)).astype(np.float32) * 2
    truth = (softmax(logits).cumsum(1) < random.random((4000, 1))).sum(1).clip(max=2)
    assert fit_temperature((logits * temperature).astype(np.float32), truth) == pytest.approx(temperature, rel=0.15)


def test_no_rows_leave_the_temperature_and_the_weight_alone():
    nothing, truth = np.empty((0, 3), np.float32), np.empty(0, np.int64)
    assert fit_temperature(nothing, truth) == 1.0
    assert choose_weight(nothing, nothing, truth) == (0.0, 1.0, 1.0)


def test_a_model_that_knows_nothing_gets_little_weight_and_one_that_knows_all_gets_much():
    random = np.random.default_rng(0)
    truth = random.integers(0, 3, 300)
    knows = np.eye(3, dtype=np.float32)[truth] * 3 + random.normal(size=(300, 3)).astype(np.float32)
    guesses = random.normal(size=(300, 3)).astype(np.float32)
    assert choose_weight(knows, guesses, truth)[0] < 0.1
    assert choose_weight(guesses, knows, truth)[0] > 0.9


def test_metrics_are_those_of_a_small_example():
    probabilities = np.array([[0.9, 0.1], [0.8, 0.2], [0.3, 0.7], [0.4, 0.6]], np.float32)
    truth = np.array([0, 1, 1, 1])
    metrics = confidence_metrics(probabilities, truth)
    assert metrics["accuracy"] == 0.75
    assert metrics["ece"] == pytest.approx((0.1 + 0.8 + 0.3 + 0.4) / 4)
    assert metrics["brier"] == pytest.approx((0.02 + 1.28 + 0.18 + 0.32) / 4)
    assert metrics["log_loss"] == pytest.approx(-np.log([0.9, 0.2, 0.7, 0.6]).mean())
    judged = Judged(probabilities.max(1), probabilities.argmax(1) == truth)
    assert [point.risk for point in risk_coverage(judged)] == pytest.approx([0, 1 / 2, 1 / 3, 1 / 4])
