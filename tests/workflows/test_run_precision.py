"""`--precision auto`: what is fast where it decides as fp32 does, and fp32 where it does not."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

import tagger
from tagger.core.errors import ModelError
from tagger.encoders import backends as precision
from tagger.inference.predictor import ENCODED_AT_ONCE
from tests.conftest import SAMPLE
from tests.encoders.test_clip import broken
from tests.helpers.keywords import keywords

COUNT = 40
SETTINGS = SAMPLE / "tagger.toml"


@pytest.fixture(autouse=True)
def _cpu_with_bf16(monkeypatch: pytest.MonkeyPatch) -> None:
    """One that says so; bf16 is then computed by way of fp32 where it is not there, and rounded alike."""
    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: True)


def tag(tmp_path: Path, model: Path, config: object = SETTINGS, **options: object) -> tuple[tagger.RunSummary, bytes]:
    options = {"cache": tmp_path / "cache", "workers": 0, "limit": COUNT, "overwrite": True, **options}
    output = tmp_path / "tagged.parquet"
    summary = tagger.run(SAMPLE / "manifest.parquet", config, **keywords(path=output, model=model, **options))
    return summary, output.read_bytes()


def test_bf16_is_taken_where_it_decides_alike(small_clip: Path, tmp_path: Path):
    summary, first = tag(tmp_path, small_clip)
    assert (summary.model["precision"], summary.encoded_images) == ("bf16", COUNT)
    summary, second = tag(tmp_path, small_clip)
    assert (summary.model["precision"], summary.encoded_images) == ("bf16", 0)
    assert second == first == tag(tmp_path, small_clip, cache=False)[1]
    assert first != tag(tmp_path, small_clip, precision="fp32")[1]


def test_a_precision_is_tried_where_fewer_images_are_encoded_at_once(
    small_clip: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setitem(ENCODED_AT_ONCE, "cpu", 4)
    summary, _ = tag(tmp_path, small_clip)
    assert (summary.model["precision"], summary.encoded_images) == ("bf16", COUNT)


def test_fp32_is_taken_and_said_where_bf16_decides_otherwise(small_clip: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture):
    """An offset that bf16 has hardly digits beside, labels near each other, and logits so large that those digits decide."""
    alike = [f"{start}shirt{end}" for start in ("", "a ", "the ", "one ", "this ", "any ") for end in ("", "s", " 1", " 2", " 3")]
    options = {"labels": alike, "config": {"manifest": {"image_root": str(SAMPLE / "images")}}}
    projection = "visual_projection.weight"
    weight = load_file(small_clip / "model.safetensors")[projection].float()
    model = broken(small_clip, tmp_path, weights={"logit_scale": torch.tensor(14.0), projection: weight + 300 * weight.std()})
    summary, first = tag(tmp_path, model, **options)
    assert (summary.model["precision"], summary.encoded_images) == ("fp32", COUNT)
    [said] = [message for message in caplog.messages if message.startswith("precision auto: ")]
    assert said.endswith("times otherwise than fp32 about the first images; going on in fp32")
    summary, second = tag(tmp_path, model, **options)
    assert (summary.model["precision"], summary.encoded_images) == ("fp32", 0)
    assert second == first == tag(tmp_path, model, cache=False, **options)[1]


def test_fp32_is_taken_where_fp16_gives_no_numbers(
    small_clip: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(precision, "choose_precision", lambda device: "fp16")  # as for a GPU
    model = broken(small_clip, tmp_path, weights={"visual_projection.weight": huge(small_clip)})
    assert tag(tmp_path, model)[0].model["precision"] == "fp32"
    assert any(message.startswith("precision auto: fp16 decides ") for message in caplog.messages)


def test_a_precision_that_gives_no_numbers_is_refused(small_clip: Path, tmp_path: Path):
    model = broken(small_clip, tmp_path, weights={"visual_projection.weight": huge(small_clip)})
    with pytest.raises(ModelError, match="--precision fp16: expected embeddings that are finite, found NaN or infinity"):
        tag(tmp_path, model, precision="fp16")
    assert not (tmp_path / "tagged.parquet").exists()


def huge(model: Path) -> torch.Tensor:
    """A projection whose numbers fp32 can hold, and whose sums a narrower type cannot."""
    return load_file(model / "model.safetensors")["visual_projection.weight"].float() * 1e6


def test_images_that_cannot_be_read_are_no_disagreement(small_clip: Path, tmp_path: Path, write_manifest):
    manifest = write_manifest(["no.png"] * 5)
    summary = tagger.run(manifest, machine=tagger.Machine(workers=0), model=small_clip, labels=["a", "b"])
    assert (summary.model["precision"], summary.errors) == ("bf16", {"missing": 5})
