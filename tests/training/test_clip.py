"""A CLIP fine-tuned on labelled rows."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import CLIPConfig, CLIPModel

import tagger
from tagger import ClipRecipe, Machine
from tagger.core import shutdown
from tagger.core.errors import ConfigError, GateError, ManifestError, ModelError, UsageError
from tagger.core.types import Preprocessing
from tagger.encoders.clip import load_clip, load_parts
from tagger.encoders.clip_model import Clip
from tagger.training.clip import contrastive_loss, larger
from tagger.training.lora import RANK, add_low_rank, merged_state
from tagger.training.split import split_groups
from tagger.training.weight_averaging import MovingAverage, blend, choose_share
from tests.conftest import SAMPLE
from tests.helpers.checkpoints import make_metaclip2, make_siglip
from tests.helpers.keywords import keywords
from tests.training.test_resnet18 import CONFIG, PICTURES, labelled

__all__ = ["labelled"]  # a fixture

LOCAL = Machine(workers=0)
QUICK = ClipRecipe(epochs=2, batch_size=32, force=True)
MODEL = SAMPLE / "model"


def train(labelled: Path, output: Path, recipe: ClipRecipe = QUICK, **options: Any) -> Any:
    return tagger.train_clip(labelled, output, CONFIG, recipe=recipe, machine=LOCAL, **{"model": MODEL, **options})


def test_the_loss_is_that_of_both_directions():
    """Written out, image by image and label by label."""
    logits = np.random.default_rng(0).normal(size=(5, 4))
    truth = np.array([0, 2, 2, 0, 3])  # of label 1 there is no image
    of_images = [-np.log(np.exp(logits[i, truth[i]]) / np.exp(logits[i]).sum()) for i in range(5)]
    of_labels = []
    for label in (0, 2, 3):
        images = np.flatnonzero(truth == label)
        of_labels.append(np.mean([-np.log(np.exp(logits[i, label]) / np.exp(logits[:, label]).sum()) for i in images]))
    expected = (np.mean(of_images) + np.mean(of_labels)) / 2
    found = contrastive_loss(torch.from_numpy(logits), torch.from_numpy(truth))
    assert float(found) == pytest.approx(expected)


def test_low_rank_changes_begin_with_nothing_and_are_all_that_learns():
    model = load_parts(str(MODEL), None).model
    assert isinstance(model, Clip)
    before = {name: weight.clone() for name, weight in model.state_dict().items()}
    learning = add_low_rank(model, seed=0)
    assert all(torch.equal(weight, before[name]) for name, weight in merged_state(model).items())
    assert {id(one) for one in model.parameters() if one.requires_grad} == {id(one) for one in learning}
    assert sum(one.numel() for one in learning) == 3 * RANK * (6 * 2 * 160 + 2 * 2 * 128)
    with torch.no_grad():
        learning[1].add_(1.0)
    changed = [name for name, weight in merged_state(model).items() if not torch.equal(weight, before[name])]
    assert changed == ["text_model.encoder.layers.0.self_attn.q_proj.weight"]


def test_low_rank_changes_are_on_the_models_device_and_of_its_type():
    model = Clip(CLIPConfig()).to("meta", torch.float64)
    assert {(one.device.type, one.dtype) for one in add_low_rank(model, seed=0)} == {("meta", torch.float64)}


@pytest.mark.parametrize(
    ("resize", "crop", "expected"),
    [
        (64, (64, 64), (80, (80, 80))),
        (80, (64, 64), (100, (80, 80))),
        (64, (64, 96), (80, (80, 120))),
        ((64, 96), None, ((80, 120), None)),
    ],
)
def test_pixels_to_be_cut_are_larger_in_all_their_sizes(resize: Any, crop: Any, expected: Any):
    """Also of a model that squashes pictures, or that sees none of their rim."""
    numbers = (0.5, 0.5, 0.5)
    found = larger(Preprocessing(resize=resize, crop=crop, resample=3, rescale=1 / 255, mean=numbers, std=numbers))
    assert (found.resize, found.crop) == expected


def test_a_blend_lies_between_and_the_best_one_is_chosen():
    original, learned = {"w": torch.tensor([0.0, 2.0])}, {"w": torch.tensor([1.0, 0.0])}
    assert torch.allclose(blend(original, learned, 0.25)["w"], torch.tensor([0.25, 1.5]))
    assert torch.equal(blend(original, learned, 0.0)["w"], original["w"])
    share, judged = choose_share(original, learned, lambda weights: float(0.35 < weights["w"][0] < 0.65))
    assert (share, len(judged)) == (0.5, 11)


def test_a_moving_average_holds_on_to_the_start_only_for_a_few_steps():
    average = MovingAverage([torch.zeros(1)], 0.9)
    for _ in range(60):
        average.update([torch.ones(1)])
    assert 0.99 < float(average.values[0]) < 1


def test_no_group_is_torn_apart():
    groups, truth = np.repeat(np.arange(40), 3), np.repeat(np.arange(40) % 2, 3)
    rows, held_out = split_groups(groups, truth, 0.25, 0)
    assert sorted([*rows, *held_out]) == list(range(120))
    assert not set(groups[rows]) & set(groups[held_out])
    assert np.bincount(truth[held_out]).tolist() == [15, 15]


@pytest.mark.parametrize("method", ["lora", "full"])
def test_what_is_written_is_an_ordinary_checkpoint(labelled: Path, tmp_path: Path, method: str):
    tuned = train(labelled, tmp_path / "tuned", ClipRecipe(method=method, epochs=3, batch_size=16, force=True))
    assert (tuned.method, tuned.rows + tuned.held_out) == (method, 94)
    theirs = CLIPModel.from_pretrained(tmp_path / "tuned").state_dict()
    assert theirs.keys() == load_file(tmp_path / "tuned" / "model.safetensors").keys()
    described = json.loads((tmp_path / "tuned" / "tagger-training.json").read_text())
    assert described["labels"] == ["dress", "bag", "ankle boot"]
    assert described["parent"]["fingerprint"] == load_clip(str(MODEL), None, torch.device("cpu")).fingerprint
    summary = tagger.run(labelled, CONFIG, **keywords(model=tmp_path / "tuned", output=tmp_path / "out.parquet", cache=False))
    assert summary.tagged + summary.review == 94
    assert not (tmp_path / "tuned.partial").exists()


def test_the_same_seed_gives_the_same_weights_also_after_an_interruption(
    labelled: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    recipe = ClipRecipe(method="lora", epochs=3, batch_size=32, force=True)
    train(labelled, tmp_path / "whole", recipe)

    def stop_in_the_second_epoch() -> None:
        if (tmp_path / "again.partial").exists():
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(shutdown, "check", stop_in_the_second_epoch)
        with pytest.raises(KeyboardInterrupt):
            train(labelled, tmp_path / "again", recipe)
    assert not (tmp_path / "again" / "config.json").exists()
    train(labelled, tmp_path / "again", recipe)
    weights = [(tmp_path / name / "model.safetensors").read_bytes() for name in ("whole", "again")]
    assert weights[0] == weights[1]


def test_less_memory_changes_nothing_but_that(labelled: Path, tmp_path: Path):
    recipes = [ClipRecipe(epochs=1, batch_size=32, force=True, less_memory=less) for less in (False, True)]
    for number, recipe in enumerate(recipes):
        train(labelled, tmp_path / str(number), recipe)
    weights = [load_file(tmp_path / name / "model.safetensors") for name in ("0", "1")]
    assert all(torch.allclose(weight, weights[1][name], atol=1e-4) for name, weight in weights[0].items())


def test_from_nothing_by_a_configuration_alone(labelled: Path, tmp_path: Path):
    tuned = train(labelled, tmp_path / "new", ClipRecipe(init=str(MODEL / "config.json"), epochs=1, force=True))
    assert (tuned.method, tuned.share) == ("full", 1.0)
    new, old = (load_file(folder / "model.safetensors")["visual_projection.weight"] for folder in (tmp_path / "new", MODEL))
    assert new.shape == old.shape
    assert not torch.allclose(new, old.float(), atol=0.1)


def test_a_metaclip_2_is_tuned_as_well(labelled: Path, tmp_path: Path):
    model = make_metaclip2(tmp_path / "model")
    train(labelled, tmp_path / "tuned", ClipRecipe(epochs=1, force=True), model=model)
    load_clip(str(tmp_path / "tuned"), None, torch.device("cpu")).encode_prompts(["Kleid"])


def test_what_is_no_better_is_not_written(labelled: Path, tmp_path: Path):
    """A learning rate of next to nothing learns next to nothing."""
    with pytest.raises(GateError, match="expected a model that is better on held-out rows, found none; nothing was written"):
        train(labelled, tmp_path / "tuned", ClipRecipe(epochs=1, learning_rate=1e-12))
    assert not (tmp_path / "tuned").exists()


def test_bad_input_is_one_line(labelled: Path, tmp_path: Path):
    few = tmp_path / "few.parquet"
    pq.write_table(pq.read_table(labelled).slice(0, 12), few)
    with pytest.raises(ManifestError, match=r"expected two labels or more, and 10 labelled rows .*, found 3 and \d of 12"):
        train(few, tmp_path / "tuned")
    alone = tmp_path / "alone.parquet"
    names = [path.name for path in sorted(PICTURES.glob("*.png"))[:40]]
    pq.write_table(pa.table({"image_path": names, "category": ["dress"] * 40}), alone)
    with pytest.raises(ManifestError, match="expected readable rows of each label in column category, found none of bag, ankle"):
        train(alone, tmp_path / "tuned")
    with pytest.raises(ConfigError, match=r"--learning-rate 1e\+30: expected a loss and weights that are numbers"):
        train(labelled, tmp_path / "tuned", ClipRecipe(epochs=2, method="full", learning_rate=1e30, force=True))
    with pytest.raises(ConfigError, match="expected a CLIP or MetaCLIP 2, which can be tuned, found another"):
        train(labelled, tmp_path / "tuned", model=make_siglip(tmp_path / "siglip"))
    with pytest.raises(UsageError, match="expected a CLIP, found .*resnet18.safetensors"):
        train(labelled, tmp_path / "tuned", model=tmp_path / "resnet18.safetensors")
    with pytest.raises(ModelError, match="--init .*none.json: expected a config.json of a CLIP"):
        train(labelled, tmp_path / "tuned", ClipRecipe(init=str(tmp_path / "none.json")))
    with pytest.raises(UsageError, match="--init: expected --method full"):
        ClipRecipe(init="config.json", method="lora")
    with pytest.raises(UsageError, match=f"--output {MODEL}: expected another folder than that of the model to begin with; name"):
        train(labelled, MODEL, overwrite=True)
    with pytest.raises(UsageError, match="expected another folder than that of the model to begin with"):
        train(labelled, MODEL, ClipRecipe(init=str(MODEL / "config.json")), overwrite=True, model="openai/clip-vit-base-patch32")
    save_file({"w": torch.zeros(1)}, tmp_path / "model.safetensors")
    with pytest.raises(UsageError, match="expected no file, found one"):
        train(labelled, tmp_path)
    assert not (tmp_path / "tuned").exists()
