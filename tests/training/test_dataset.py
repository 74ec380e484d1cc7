"""Labelled rows from the engine: every precision, the cache, and error rows, for all who learn from them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

import tagger
from tagger.encoders import backends
from tagger.inference import load
from tagger.inference.precision_trial import TRIED
from tagger.inference.predictor import Predictor
from tests.conftest import SAMPLE
from tests.helpers.keywords import study_keywords
from tests.training.test_resnet18 import CONFIG, LABELS, RECIPE, labelled, labelled_rows

__all__ = ["labelled"]  # a fixture

INT8 = {"backend": "openvino", "precision": "int8"}


@pytest.fixture
def encoded(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The precision that each image was encoded in, as it happens."""
    found: list[str] = []
    encode = Predictor.encode

    def watched(self: Predictor, pixels: torch.Tensor) -> object:
        found.extend([self.encoder.precision] * len(pixels))
        return encode(self, pixels)

    monkeypatch.setattr(Predictor, "encode", watched)
    return found


def compare(labelled: Path, tmp_path: Path, **options: Any) -> pa.Table:
    """Zero-shot answers about all rows that were drawn to test with."""
    given = {"systems": ("zero-shot",), "shots": (1,), "test": 3, "seeds": 3, "workers": 0, "model": SAMPLE / "model"}
    given |= {"recipe": RECIPE, "cache": tmp_path / "cache", "overwrite": True, **options}
    tagger.compare(labelled, tmp_path / "comparison", CONFIG, **study_keywords(**given))
    return pq.read_table(tmp_path / "comparison" / "predictions.parquet")


def test_a_comparison_in_int8_answers_as_a_run_in_int8(labelled: Path, tmp_path: Path):
    pytest.importorskip("openvino")
    answers = compare(labelled, tmp_path, **INT8).to_pylist()
    machine, output = tagger.Machine(workers=0), tagger.Output(report=False, path=tmp_path / "tagged.parquet")
    options = {"model": SAMPLE / "model", "cache": tmp_path / "cache", **INT8}
    tagged = tagger.run(labelled, CONFIG, output=output, machine=machine, **options)
    assert tagged.encoded_images == 0  # the comparison has encoded them all
    rows = tagged.read().to_pylist()
    for answer in answers:
        row = rows[answer["row"]]
        assert (answer["label"], answer["confidence"]) == (row["category_label"], row["category_confidence"])


def test_an_ensemble_with_int8_can_be_trained_and_used(labelled: Path, tmp_path: Path):
    pytest.importorskip("openvino")
    checkpoint, machine = tmp_path / "r.safetensors", tagger.Machine(workers=0)
    options = {"machine": machine, "model": SAMPLE / "model", "cache": tmp_path / "cache", **INT8}
    trained = tagger.train_resnet18(labelled, checkpoint, CONFIG, recipe=replace(RECIPE, ensemble=True, epochs=1), **options)
    assert trained.ensemble is not None
    config = {**CONFIG, "fallback": {"checkpoint": str(checkpoint), "mode": "ensemble"}}
    output = tagger.Output(report=False, path=tmp_path / "tagged.parquet")
    assert tagger.run(labelled, config, output=output, **options).model["precision"] == "int8"


def test_a_second_comparison_encodes_nothing(labelled: Path, tmp_path: Path, encoded: list[str]):
    first = compare(labelled, tmp_path, precision="fp32")
    assert len(encoded) == labelled_rows(labelled)
    encoded.clear()
    assert compare(labelled, tmp_path, precision="fp32").equals(first)
    assert encoded == []


@pytest.mark.parametrize("alike", [True, False])
def test_a_comparison_tries_a_precision_before_it_takes_it(
    labelled: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    encoded: list[str],
    alike: bool,
):
    monkeypatch.setattr(backends, "choose_precision", lambda device: "bf16")
    if not alike:
        monkeypatch.setattr(load, "disagreements", lambda *_: 3)
    compare(labelled, tmp_path)
    counts = {"bf16": encoded.count("bf16"), "fp32": encoded.count("fp32")}
    rows = labelled_rows(labelled)
    assert counts == ({"bf16": rows, "fp32": TRIED} if alike else {"bf16": 0, "fp32": rows})
    warning = "precision auto: bf16 decides 3 times otherwise than fp32 about the first images; going on in fp32"
    assert (warning in caplog.messages) == (not alike)


def test_no_clip_is_loaded_where_none_is_compared(labelled: Path, tmp_path: Path, encoded: list[str]):
    table = compare(labelled, tmp_path, systems=("resnet18",), model=tmp_path / "no-such-model")
    assert set(table["system"].to_pylist()) == {"resnet18"}
    assert encoded == []


@pytest.mark.parametrize("systems", [("zero-shot",), ("resnet18",)])
def test_a_labelled_row_that_cannot_be_read_is_left_out_and_said(
    labelled: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture, systems: tuple[str, ...]
):
    table = pq.read_table(labelled, columns=["image_path", "category"])
    lost = pa.table({"image_path": ["lost.png"], "category": [LABELS[0]]}, table.schema)
    manifest = tmp_path / "manifest.parquet"
    pq.write_table(pa.concat_tables([lost, table]), manifest)
    tests = pa.concat_tables([lost, table.slice(0, 40)])
    pq.write_table(tests, tmp_path / "tests.parquet")
    found = compare(manifest, tmp_path, systems=systems, test_manifest=tmp_path / "tests.parquet", test=None, seeds=1)
    said = [message for message in caplog.messages if message.startswith("images that cannot be read are left out: ")]
    assert len(said) == 2  # one of each manifest
    assert all("missing (no file lost.png in the image root " in message for message in said)
    rows = found["row"].to_pylist()
    assert 0 not in rows
    truths = [tests["category"][row].as_py() for row in rows]
    assert found["truth"].to_pylist() == truths
    assert np.unique(rows).size == len(rows) == labelled_rows(tmp_path / "tests.parquet")


def test_what_is_decoded_for_a_resnet18_is_the_same_with_and_without_an_engine(labelled: Path, tmp_path: Path):
    """And belongs to the same rows, whatever cannot be read."""
    from tagger.catalog.object_storage import Workspace
    from tagger.images.reading import Reading
    from tagger.inference.job import open_job
    from tagger.settings.load import load_settings
    from tagger.training.dataset import decode, embed, read_labelled

    settings = load_settings(str(labelled), CONFIG, model=SAMPLE / "model", cache=False)
    shape = replace(RECIPE, image_size=48).preprocessing
    for folder in ("alone", "engine"):
        (tmp_path / folder).mkdir()
    with Workspace() as space:
        job = open_job(str(labelled), settings, space)
        rows = read_labelled(job.manifest, job.attributes)
        alone = decode(rows, Reading(policy=job.policy, preprocessings={"small": shape}, workers=0), print, tmp_path / "alone")
        with load.open_engine(job, tagger.Machine(workers=2, batch_size=5), pixels={"small": shape}) as engine:
            together = embed(rows, engine, print, {"small": shape}, tmp_path / "engine")
    assert together.rows.tolist() == alone.rows.tolist()
    assert together.truth.tolist() == alone.truth.tolist()
    assert torch.equal(together.pixels["small"], alone.pixels["small"])  # PNG: no smaller decoding to differ in
    assert together.embeddings is not None
    assert len(together.embeddings) == len(together.rows) == labelled_rows(labelled)
