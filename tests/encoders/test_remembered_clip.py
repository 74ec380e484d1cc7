"""What is remembered of a CLIP: until its files, the settings or the machine are others."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest
import torch

from tagger.encoders import remembered_clip
from tagger.encoders.clip import ClipEncoder
from tagger.encoders.remembered_clip import ClipDescription, ClipMemory, RememberedClip

SETTINGS = (None, "torch", "auto", False)


@pytest.fixture
def checkpoint(small_clip: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(small_clip, tmp_path / "model"))


def test_an_encoder_is_remembered_as_it_says_of_itself(encoder: ClipEncoder, checkpoint: Path, tmp_path: Path):
    assert ClipMemory(tmp_path, checkpoint, SETTINGS).recall() is None
    ClipMemory(tmp_path, checkpoint, SETTINGS).keep(encoder)
    known = ClipMemory(tmp_path, checkpoint, SETTINGS).recall()
    assert known is not None
    remembered = RememberedClip(known, lambda: encoder)
    for name in (*ClipDescription.model_fields, "source", "reads_prompts"):
        assert getattr(remembered, name) == getattr(encoder, name)


@pytest.mark.parametrize("file", ["model.safetensors", "processor_config.json", "tokenizer.json"])
def test_a_file_that_was_touched_makes_it_unknown(file: str, encoder: ClipEncoder, checkpoint: Path, tmp_path: Path):
    ClipMemory(tmp_path, checkpoint, SETTINGS).keep(encoder)
    os.utime(checkpoint / file, ns=(1, 1))
    assert ClipMemory(tmp_path, checkpoint, SETTINGS).recall() is None


def test_an_int8_model_that_is_put_beside_it_makes_it_unknown(encoder: ClipEncoder, checkpoint: Path, tmp_path: Path):
    ClipMemory(tmp_path, checkpoint, SETTINGS).keep(encoder)
    (checkpoint / "int8").mkdir()
    assert ClipMemory(tmp_path, checkpoint, SETTINGS).recall() is None


@pytest.mark.parametrize("number", range(len(SETTINGS)))
def test_other_settings_make_it_unknown(number: int, encoder: ClipEncoder, checkpoint: Path, tmp_path: Path):
    ClipMemory(tmp_path, checkpoint, SETTINGS).keep(encoder)
    other = [*SETTINGS]
    other[number] = "other"
    assert ClipMemory(tmp_path, checkpoint, other).recall() is None


def test_another_processor_makes_it_unknown(
    encoder: ClipEncoder, checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    (tmp_path / "cpuinfo").write_text("flags : sse2\n")
    monkeypatch.setattr(remembered_clip, "CPU_FLAGS", tmp_path / "cpuinfo")
    ClipMemory(tmp_path, checkpoint, SETTINGS).keep(encoder)
    assert ClipMemory(tmp_path, checkpoint, SETTINGS).recall() is not None
    (tmp_path / "cpuinfo").write_text("flags : sse2 avx512_bf16\n")
    assert ClipMemory(tmp_path, checkpoint, SETTINGS).recall() is None


def test_what_is_damaged_is_unknown(encoder: ClipEncoder, checkpoint: Path, tmp_path: Path):
    memory = ClipMemory(tmp_path, checkpoint, SETTINGS)
    memory.keep(encoder)
    [file] = (tmp_path / "models").iterdir()
    whole = file.read_bytes()
    for damaged in (b"", whole[:-1], whole.replace(encoder.weights[:4].encode(), b"0000"), b"\xff" * 100):
        file.write_bytes(damaged)
        assert memory.recall() is None


def test_a_folder_that_cannot_be_written_is_warned_of(
    encoder: ClipEncoder, checkpoint: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
):
    (tmp_path / "models").write_text("in the way")
    ClipMemory(tmp_path, checkpoint, SETTINGS).keep(encoder)
    assert "the next run loads the model again" in caplog.text


def test_the_model_is_loaded_when_it_has_to_encode_and_once(encoder: ClipEncoder):
    loaded = []

    def load() -> ClipEncoder:
        loaded.append(encoder)
        return encoder

    described = ClipDescription(**{name: getattr(encoder, name) for name in ClipDescription.model_fields})
    remembered = RememberedClip(described, load)
    assert loaded == []
    pixels = torch.zeros((1, 3, *encoder.preprocessing.size), dtype=torch.uint8)
    assert torch.equal(remembered.encode(pixels), encoder.encode(pixels))
    assert torch.equal(remembered.encode_prompts(["a dress"]), encoder.encode_prompts(["a dress"]))
    assert len(loaded) == 1
