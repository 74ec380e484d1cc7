"""summary.json is what its schema says, whatever kind of run wrote it."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import FrozenInstanceError
from importlib.resources import files
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from jsonschema import Draft202012Validator, ValidationError

import tagger
from tagger.core.errors import GateError
from tagger.reports.summary import RunSummary
from tagger.training.resnet18 import Recipe
from tests.helpers.keywords import keywords

LABELS = ["shirt", "dress", "shoes"]
NAMES = [f"{number:04d}.png" for number in range(12)]
TRUTH = ["shirt", "dress", "shoes"] * 4
KIND = {"name": "kind", "labels": LABELS, "truth_column": "kind"}
SCHEMA = json.loads(files("tagger").joinpath("reports/summary.schema.json").read_text())


@pytest.fixture
def written(write_manifest, small_clip: Path, pictures: Path, tmp_path: Path) -> Callable[..., dict[str, Any]]:
    """Run, and read summary.json as a stranger does."""

    def run(settings: dict[str, Any], images: Any = NAMES, fails: bool = False, **options: Any) -> dict[str, Any]:
        manifest = write_manifest(images, kind=pa.array(TRUTH[: len(images)], pa.string()))
        options = {"model": small_clip, "image_root": pictures, "workers": 0, "overwrite": True, **options}
        if fails:
            with pytest.raises(GateError):
                tagger.run(manifest, settings, **keywords(**options))
        else:
            tagger.run(manifest, settings, **keywords(**options))
        return json.loads((tmp_path / "manifest.tagged.run" / "summary.json").read_text())

    return run


def test_the_schema_is_one():
    Draft202012Validator.check_schema(SCHEMA)


def test_a_summary_does_not_change_once_it_is_made():
    summary = RunSummary(run_id="1", started="2026-11-25", output="out.parquet", settings={}, model={}, rows=3)
    with pytest.raises(FrozenInstanceError):
        summary.rows = 4


def test_a_plain_night_fits_the_schema(written):
    first = written({"attribute": [KIND]})
    Draft202012Validator(SCHEMA).validate(first)
    assert first["evaluation"]["kind"]["labelled_rows"] == 12
    assert first["started"] <= first["ended"]
    with pytest.raises(ValidationError):
        Draft202012Validator(SCHEMA).validate({**first, "more": 1})
    with pytest.raises(ValidationError):
        Draft202012Validator(SCHEMA).validate({key: value for key, value in first.items() if key != "gates"})
    second = written({"attribute": [KIND]})
    Draft202012Validator(SCHEMA).validate(second)
    assert second["changed_labels"] == {"kind": {"rows": 12, "changed": 0, "examples": []}}
    assert first["drift"]["missing"] == "there is no earlier result to compare with"
    shifts = [(one["figure"], one["attribute"], one["alarm"]) for one in second["drift"]["shifts"]]
    quiet = [("labels", "kind", False), ("confidence", "kind", False), ("errors", None, False), ("embeddings", None, False)]
    assert (second["drift"]["missing"], second["drift"]["rows"], shifts) == (None, [12, 12], quiet)
    assert second["drift"]["shifts"][3]["now"] == pytest.approx(1)


def test_a_night_without_truth_fits_the_schema(written):
    summary = written({"attribute": [{"name": "sort", "labels": [{"name": "hat", "prompts": ["a hat"]}, "bag"]}]})
    Draft202012Validator(SCHEMA).validate(summary)
    assert (summary["evaluation"], summary["gates"]) == (None, [])


def test_a_night_that_is_not_good_enough_fits_the_schema(written):
    gates = {
        "min_accuracy": 0.1,
        "min_macro_f1": 0.1,
        "min_labelled_rows": 100,
        "max_error_rate": 1.0,
        "max_review_rate": 1.0,
        "max_changed_labels": 1.0,
        "max_psi": 0.1,
    }
    settings = {"attribute": [KIND], "gates": gates}
    for options in ({}, {"max_errors": 0, "images": ["none.png", *NAMES[1:]]}):
        summary = written(settings, fails=True, **options)
        Draft202012Validator(SCHEMA).validate(summary)
        assert (summary["exit_code"], summary["published"], len(summary["gates"])) == (3, False, 7)


@pytest.mark.parametrize("images", [pa.array([], pa.string()), ["none.png", "neither.png"]])
def test_a_night_without_a_single_image_fits_the_schema(written, images: Any):
    summary = written({"attribute": [KIND]}, images=images)
    Draft202012Validator(SCHEMA).validate(summary)
    assert (summary["rows"], summary["encoded_images"]) == (len(images), 0)
    assert summary["evaluation"]["kind"]["accuracy"] is None


def test_nights_with_a_fallback_fit_the_schema(written, write_manifest, pictures: Path, small_clip: Path, tmp_path: Path):
    manifest = write_manifest(NAMES, name="labelled.parquet", kind=TRUTH)
    checkpoint = tmp_path / "resnet18.safetensors"
    recipe = Recipe(init="random", image_size=64, epochs=1, batch_size=4)
    settings = {"attribute": [KIND], "manifest": {"image_root": str(pictures)}}
    tagger.train_resnet18(manifest, checkpoint, settings, machine=tagger.Machine(workers=0), recipe=recipe, model=small_clip)
    fallback = {"checkpoint": str(checkpoint), "below": 1.0, "on_model_error": True}
    behind = written({**settings, "fallback": fallback})
    Draft202012Validator(SCHEMA).validate(behind)
    assert behind["fallback_images"] == 12
    assert "fallback" in behind["model"]
    instead = written({**settings, "fallback": fallback}, model=tmp_path / "no-clip")
    Draft202012Validator(SCHEMA).validate(instead)
    assert instead["model"]["instead_of"] == str(tmp_path / "no-clip")
