"""`tagger train prompts-dapt`, and runs with the model and the head that it writes."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from click.testing import CliRunner
from safetensors.torch import load_file, save_file
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

import tagger
from tagger import ClipRecipe, DaptRecipe, Machine
from tagger.cli.main import cli
from tagger.core.errors import ConfigError, GateError, ManifestError, ModelError, UsageError
from tagger.encoders.backends import in_precision
from tagger.encoders.clip import load_clip, load_parts
from tagger.encoders.clip_checkpoint import PROMPTS
from tagger.encoders.cost import cost_of_clip
from tagger.encoders.normalise import Normalise
from tagger.tagging.head_file import read_head
from tagger.training import dapt
from tests.helpers.checkpoints import make_metaclip2, make_siglip
from tests.training.test_dapt import images
from tests.training.test_resnet18 import CONFIG, LABELS, PICTURES, labelled
from tests.workflows.test_run_head import MODEL, settings, tag

__all__ = ["labelled"]  # a fixture

CPU = torch.device("cpu")
ANYWAY = DaptRecipe(force=True)


def train(manifest: Path, output: Path, recipe: DaptRecipe = ANYWAY, **options: Any) -> Any:
    return tagger.train_dapt(manifest, output, CONFIG, recipe=recipe, machine=Machine(workers=0), **{"model": MODEL, **options})


@pytest.fixture(scope="module")
def prompted(labelled: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("trained") / "prompted"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(dapt, "STEPS", 20)
        tuned = train(labelled, folder)
    assert tuned.rows + tuned.held_out == 94
    return folder


def test_what_is_written_is_the_checkpoint_with_further_tokens(prompted: Path):
    weights, before = load_file(prompted / "model.safetensors"), load_parts(str(MODEL), None).model.state_dict()
    assert weights.keys() == {*before, PROMPTS}
    assert all(torch.equal(weights[key], weight) for key, weight in before.items())
    assert weights[PROMPTS].shape == (dapt.PATCHES, 160)
    described = json.loads((prompted / "tagger-training.json").read_text())
    assert described["labels"] == LABELS
    assert read_head(str(prompted / "head.safetensors")).description.encoder == load_clip(str(prompted), None, CPU).fingerprint


def test_a_run_tags_as_the_learned_prompts_say(labelled: Path, prompted: Path, tmp_path: Path):
    """The cache keeps both models' embeddings apart."""
    encoded = [
        tag(labelled, tmp_path, config, model=model, precision="fp32").encoded_images
        for config, model in [(settings(), MODEL), (settings(prompted / "head.safetensors"), prompted)] * 2
    ]
    assert (encoded[0] > 0, encoded[1], encoded[2:]) == (True, encoded[0], [0, 0])
    rows = [row for row in pq.read_table(tmp_path / "tagged.parquet").to_pylist() if row["tag_status"] != "error"]
    pixels = images(parts := load_parts(str(prompted), None), 60)
    with torch.inference_mode():
        model: Any = parts.model
        tokens = torch.nn.functional.normalize(
            model.visual_projection(model.vision_model(Normalise(parts.preprocessing)(pixels)))
        )
    scores = tokens.numpy() @ read_head(str(prompted / "head.safetensors")).tensors["weight"].T
    found = {row["image_path"]: row["category_label"] for row in rows}
    expected = {f"{number:04d}.png": LABELS[best] for number, best in enumerate(scores.argmax(1))}
    common = found.keys() & expected.keys()
    assert len(common) > 5
    assert np.mean([found[name] == expected[name] for name in common]) > 0.9  # resized in other ways


@pytest.mark.parametrize(("backend", "precision"), [("torch", "bf16"), ("openvino", "fp32"), ("openvino", "int8")])
def test_towers_of_other_back_ends_have_the_tokens(prompted: Path, backend: str, precision: str):
    encoder, plain = load_clip(str(prompted), None, CPU), load_clip(str(MODEL), None, CPU)
    pixels = torch.randint(0, 256, (8, 3, *encoder.preprocessing.size), dtype=torch.uint8, generator=torch.manual_seed(0))
    assert encoder.fingerprint != plain.fingerprint
    assert not torch.allclose(encoder.encode(pixels), plain.encode(pixels), atol=1e-3)
    other = in_precision(encoder, backend, precision, at_once=8, folder=None, images=lambda: iter([pixels]))
    cosines = (encoder.encode(pixels) * other.encode(pixels)).sum(1)
    assert cosines.min() > (0.999999 if precision == "fp32" else 0.99)


def test_its_cost_has_the_tokens(prompted: Path):
    encoder = load_clip(str(prompted), None, CPU)
    cost, _ = cost_of_clip(str(prompted), None, False)
    with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
        encoder.encode(torch.zeros((1, 3, *encoder.preprocessing.size), dtype=torch.uint8))
    assert cost.operations == pytest.approx(counter.get_total_flops(), rel=0.01)
    assert cost.product[0] == cost_of_clip(str(MODEL), None, False)[0].product[0] + dapt.PATCHES


def test_the_same_seed_writes_the_same_bytes(labelled: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(dapt, "STEPS", 2)
    for name in ("one", "two"):
        train(labelled, tmp_path / name)
    files = [{path.name: path.read_bytes() for path in (tmp_path / name).iterdir()} for name in ("one", "two")]
    assert files[0] == files[1]


def test_a_model_with_prompts_can_be_fine_tuned(labelled: Path, prompted: Path, tmp_path: Path):
    recipe = ClipRecipe(epochs=1, method="full", force=True)
    tagger.train_clip(labelled, tmp_path / "tuned", CONFIG, recipe=recipe, machine=Machine(workers=0), model=prompted)
    assert PROMPTS in load_file(tmp_path / "tuned" / "model.safetensors")


def test_a_metaclip_2_learns_prompts_as_well(labelled: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(dapt, "STEPS", 2)
    train(labelled, tmp_path / "prompted", model=make_metaclip2(tmp_path / "model"))
    load_clip(str(tmp_path / "prompted"), None, CPU).encode_prompts(["Kleid"])


def test_prompts_that_are_no_better_are_not_written(labelled: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(dapt, "STEPS", 1)
    monkeypatch.setattr(dapt, "LEARNING_RATE", 0.0)
    with pytest.raises(GateError, match="expected prompts that are better on held-out rows, found none; nothing was written"):
        train(labelled, tmp_path / "prompted", DaptRecipe())
    assert not (tmp_path / "prompted").exists()


def test_bad_input_is_one_line(labelled: Path, prompted: Path, tmp_path: Path):
    with pytest.raises(ConfigError, match="expected a CLIP or MetaCLIP 2, whose prompts can be learned, found another kind"):
        train(labelled, tmp_path / "out", model=make_siglip(tmp_path / "siglip"))
    with pytest.raises(UsageError, match="expected a CLIP, whose prompts are learned, found .*resnet18.safetensors; name one"):
        train(labelled, tmp_path / "out", model=tmp_path / "resnet18.safetensors")
    with pytest.raises(UsageError, match="expected another folder than that of the model to begin with; name another"):
        train(labelled, prompted, model=prompted, overwrite=True)
    with pytest.raises(UsageError, match="expected no file, found one"):
        train(labelled, prompted)
    few = tmp_path / "few.parquet"
    pq.write_table(pq.read_table(labelled).slice(0, 12), few)
    with pytest.raises(ManifestError, match=r"and 10 labelled rows or more to choose by, found 3 and \d of 12; label more"):
        train(few, tmp_path / "out")
    with pytest.raises(ConfigError, match="expected one fitted on embeddings of this model, found one of other weights"):
        tag(labelled, tmp_path, settings(prompted / "head.safetensors"))
    assert not (tmp_path / "out").exists()


def test_tokens_of_another_width_are_refused(prompted: Path, tmp_path: Path):
    folder = shutil.copytree(prompted, tmp_path / "model")
    weights = load_file(folder / "model.safetensors")
    save_file({**weights, PROMPTS: torch.zeros(8, 7)}, folder / "model.safetensors")
    with pytest.raises(ModelError, match=r"expected vision_model.prompts of shape \(8, 160\), found: \(8, 7\); get it again"):
        load_clip(str(folder), None, CPU)


def test_the_command(labelled: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(dapt, "STEPS", 2)
    (tmp_path / "tagger.toml").write_text(
        f'[manifest]\nimage_root = "{PICTURES}"\n[[attribute]]\nname = "category"\nlabels = {LABELS}\ntruth_column = "category"\n'
    )
    options = ["--config", str(tmp_path / "tagger.toml"), "--model", str(MODEL), "--workers", "0", "--force"]
    result = CliRunner().invoke(cli, ["train", "prompts-dapt", str(labelled), "--output", str(tmp_path / "prompted"), *options])
    assert result.exit_code == 0, result.output
    assert "prompts of both towers, learned from" in result.output
    assert (tmp_path / "prompted" / "config.json").exists()
