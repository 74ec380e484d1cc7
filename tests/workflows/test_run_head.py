"""Runs and calibrations with a head: it decides, no image is encoded for it, and what fitted it calibrates nothing."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from jsonschema import Draft202012Validator

import tagger
from tagger.catalog.schemas import tagger_metadata
from tagger.core.errors import ConfigError, ManifestError, ModelError
from tagger.encoders.clip import ClipEncoder
from tagger.settings.attributes import Attribute, prompts_hash
from tagger.tagging.head_file import HeadDescription, HeldOut, to_bytes
from tagger.tagging.heads import LinearHead, ZeroShotHead
from tests.conftest import SAMPLE
from tests.helpers.keywords import keywords
from tests.helpers.pictures import is_whole
from tests.reports.test_summary import SCHEMA
from tests.training.test_resnet18 import ATTRIBUTE, CONFIG, LABELS, PICTURES, checkpoint, labelled

__all__ = ["checkpoint", "labelled"]  # fixtures

MODEL = SAMPLE / "model"


def write_head(path: Path, encoder: ClipEncoder, shift: int = 0, fitted: Sequence[str] = (), weights: str | None = None) -> Path:
    """Write a head that says of each image the label that stands `shift` places behind the one that zero-shot says."""
    attribute = Attribute(name="category", labels=tuple(LABELS))
    zero_shot = ZeroShotHead(
        [encoder.encode_prompts(attribute.prompts(label)).numpy() for label in attribute.labels], encoder.logit_scale
    )
    weight = zero_shot.logit_scale * torch.from_numpy(zero_shot.label_embeddings).roll(shift, 0)
    head = LinearHead(weight, torch.zeros(len(LABELS)))
    digests = [hashlib.sha256((PICTURES / name).read_bytes()).digest() for name in fitted]
    described = HeadDescription(
        attribute="category",
        labels=tuple(LABELS),
        encoder=weights or encoder.weights,
        prompts=prompts_hash(attribute),
        method="gda",
        blend=1.0,
        beta=None,
        held_out=HeldOut(accuracy=None, zero_shot_accuracy=None, interval=None, probability=None, folds=0),
        rows=len(fitted),
        manifest="",
        seed=0,
        versions={},
    )
    path.write_bytes(to_bytes(head, lambda _: described, np.frombuffer(b"".join(digests), np.uint8).reshape(-1, 32)))
    return path


def settings(head: Path | None = None, calibration: Path | None = None, **sections: Any) -> dict[str, Any]:
    files = {name: str(path) for name, path in (("head", head), ("calibration", calibration)) if path}
    return {**CONFIG, "attribute": [{**ATTRIBUTE, **sections.pop("of_attribute", {}), **files}], **sections}


def tag(labelled: Path, tmp_path: Path, config: dict[str, Any], **options: Any) -> tagger.RunSummary:
    options = {"workers": 0, "overwrite": True, "cache": tmp_path / "cache", "model": MODEL, **options}
    return tagger.run(labelled, config, **keywords(path=tmp_path / "tagged.parquet", **options))


def test_a_head_decides_and_no_image_is_encoded_for_it(labelled: Path, tmp_path: Path, encoder: ClipEncoder):
    plain = tag(labelled, tmp_path, settings())
    before = plain.read().to_pylist()
    head = write_head(tmp_path / "head.safetensors", encoder, shift=1)
    summary = tag(labelled, tmp_path, settings(head))
    assert (plain.encoded_images > 0, summary.encoded_images) == (True, 0)
    rows = [row for row in summary.read().to_pylist() if row["tag_status"] != "error"]
    assert {row["category_source"] for row in rows} == {"head"}
    behind = dict(zip(LABELS, [*LABELS[1:], LABELS[0]], strict=True))
    assert [row["category_label"] for row in rows] == [behind[row["category_label"]] for row in before if row["category_label"]]
    assert list(summary.model["heads"]) == ["category"]
    assert tagger_metadata(summary.read().schema)["model"]["heads"] == summary.model["heads"]
    Draft202012Validator(SCHEMA).validate(json.loads(summary.to_json()))
    written = Path(summary.output).read_bytes()
    assert Path(tag(labelled, tmp_path, settings(head), batch_size=5, fresh=True).output).read_bytes() == written
    other = write_head(tmp_path / "other.safetensors", encoder, shift=2)
    again = tag(labelled, tmp_path, settings(other))
    assert again.model["heads"] != summary.model["heads"]
    assert "heads" not in plain.model


def test_a_fallback_stands_behind_a_head(labelled: Path, checkpoint: Path, tmp_path: Path, encoder: ClipEncoder):
    head = write_head(tmp_path / "head.safetensors", encoder)
    fallback = {"checkpoint": str(checkpoint), "below": 0.99}
    sources = set(tag(labelled, tmp_path, settings(head, fallback=fallback)).read()["category_source"].to_pylist())
    assert sources - {None} == {"head", "resnet18"}
    with pytest.raises(ConfigError, match="expected none beside .fallback. mode ensemble"):
        tag(labelled, tmp_path, settings(head, fallback={**fallback, "mode": "ensemble"}))
    with pytest.raises(ConfigError, match="expected a CLIP, whose embeddings it was fitted on, found model .*resnet18"):
        tag(labelled, tmp_path, settings(head), model=checkpoint)


def test_without_heads_the_prompts_decide_even_if_there_is_no_head_yet(labelled: Path, tmp_path: Path):
    config = settings(tmp_path / "none yet.safetensors", tmp_path / "none.json", of_attribute={"prediction_sets": 0.9})
    with pytest.raises(ModelError, match="none yet.safetensors: expected a readable file, found: No such file"):
        tag(labelled, tmp_path, config)
    plain = tag(labelled, tmp_path, config, heads=False)
    assert plain.confidence == {"category": "uncalibrated"}
    assert plain.read()["category_source"].unique().drop_null().to_pylist() == ["clip"]
    assert plain.read().equals(tag(labelled, tmp_path, settings()).read())


def test_another_models_head_or_prompts_are_refused(labelled: Path, tmp_path: Path, encoder: ClipEncoder):
    head = write_head(tmp_path / "head.safetensors", encoder)
    with pytest.raises(ConfigError, match="expected one fitted beside these prompts"):
        tag(labelled, tmp_path, settings(head, of_attribute={"templates": ["The {label}."]}), model=tmp_path / "never loaded")
    other = write_head(tmp_path / "other.safetensors", encoder, weights="others")
    with pytest.raises(ConfigError, match="expected one fitted on embeddings of this model, found one of other weights"):
        tag(labelled, tmp_path, settings(other))
    assert not (tmp_path / "tagged.parquet").exists()


def calibrate(labelled: Path, tmp_path: Path, config: dict[str, Any]) -> tuple[Path, Any]:
    path = tmp_path / "calibration.json"
    machine = tagger.Machine(workers=0)
    content = tagger.calibrate(labelled, path, config, overwrite=True, machine=machine, model=MODEL)
    return path, content.attributes["category"]


def test_what_fitted_a_head_does_not_calibrate_it(
    labelled: Path, tmp_path: Path, encoder: ClipEncoder, caplog: pytest.LogCaptureFixture
):
    caplog.set_level("INFO")
    table = pq.read_table(labelled)
    pairs = zip(table["image_path"].to_pylist(), table["category"].to_pylist(), strict=True)
    names = [name for name, truth in pairs if truth and is_whole(PICTURES / name)]
    head = write_head(tmp_path / "head.safetensors", encoder, fitted=names[:20])
    path, calibration = calibrate(labelled, tmp_path, settings(head))
    assert calibration.fitted_rows + calibration.held_out_rows <= len(names) - 20
    assert (
        f"of {len(names)} labelled rows fitted the head, or are nearly the same picture, and do not calibrate it" in caplog.text
    )
    assert list(calibration.sources) == ["head"]
    assert tag(labelled, tmp_path, settings(head, path)).confidence == {"category": "calibrated"}
    with pytest.raises(ConfigError, match="calibration: expected one made for these weights of head, found other weights"):
        tag(labelled, tmp_path, settings(write_head(tmp_path / "other.safetensors", encoder, shift=1), path))
    with pytest.raises(ConfigError, match="calibration: expected a temperature for clip, found those of head"):
        tag(labelled, tmp_path, settings(None, path))
    seen = write_head(tmp_path / "seen.safetensors", encoder, fitted=names)
    with pytest.raises(ManifestError, match="expected labelled rows that did not fit head .*, found none among .* --hold-out"):
        calibrate(labelled, tmp_path, settings(seen))
