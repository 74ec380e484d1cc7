"""Prompts of both towers: distribution-aware prompt tuning."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image
from transformers import CLIPModel

import tagger
from tagger import Recipe, Study
from tagger.core.errors import ConfigError
from tagger.encoders.clip import Parts, load_parts
from tagger.encoders.clip_model import Clip
from tagger.training import dapt
from tagger.training.dapt import fit_dapt, intra_dispersion, predict
from tests.conftest import SAMPLE
from tests.helpers.checkpoints import make_siglip
from tests.training.test_resnet18 import CONFIG, LABELS, PICTURES, labelled

__all__ = ["labelled"]  # a fixture


@pytest.fixture(scope="module")
def parts() -> Parts:
    return load_parts(str(SAMPLE / "model"), None)


def images(parts: Parts, count: int) -> torch.Tensor:
    """The first sample pictures, as the model wants them."""
    side = parts.preprocessing.size[0]
    pictures = [Image.open(PICTURES / f"{number:04d}.png").convert("RGB").resize((side, side)) for number in range(count)]
    return torch.stack([torch.from_numpy(np.array(picture)).permute(2, 0, 1) for picture in pictures])


def test_intra_dispersion_is_the_mean_squared_distance_to_the_own_prototype():
    rng = np.random.default_rng(0)
    points, prototypes, truth = rng.normal(size=(5, 3)), rng.normal(size=(2, 3)), np.array([0, 1, 1, 0, 1])
    expected = np.mean([sum((points[i] - prototypes[truth[i]]) ** 2) for i in range(5)])
    found = intra_dispersion(torch.from_numpy(points), torch.from_numpy(truth), torch.from_numpy(prototypes))
    assert float(found) == pytest.approx(expected)


def test_a_prototype_is_the_mean_of_its_label():
    embeddings = torch.tensor([[1.0, 0.0], [0.0, 1.0], [0.0, 3.0]])
    assert dapt._prototypes(embeddings, torch.tensor([0, 2, 2]), 3).tolist() == [[1, 0], [0, 0], [0, 2]]


def test_further_tokens_stand_behind_the_patches(parts: Parts):
    """As transformers' own layers, one after the other, compute it."""
    model, patches = cast(Clip, parts.model), 0.1 * torch.randn(3, 160, generator=torch.manual_seed(0))
    theirs = CLIPModel.from_pretrained(SAMPLE / "model", dtype=torch.float32).eval().vision_model
    pixels = torch.randn(4, 3, 64, 64)
    with torch.inference_mode():
        tokens = torch.cat([theirs.embeddings(pixels), patches.expand(4, -1, -1)], 1)
        tokens = theirs.pre_layrnorm(tokens)
        for layer in theirs.encoder.layers:
            found = layer(tokens, None)
            tokens = found[0] if isinstance(found, tuple) else found
        expected = theirs.post_layernorm(tokens[:, 0])
        assert torch.allclose(model.vision_model(pixels, patches), expected, atol=1e-5)
        assert not torch.allclose(model.vision_model(pixels), expected, atol=1e-3)


def test_both_kinds_of_prompts_learn_and_nothing_else(parts: Parts, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(dapt, "STEPS", 4)
    before = {name: weight.clone() for name, weight in parts.model.state_dict().items()}
    pixels, truth = images(parts, 24), np.arange(24) % 3
    steps: list[int] = []
    learned = fit_dapt(parts, pixels, truth, LABELS, 0, advance=lambda: steps.append(1))
    assert len(steps) == 4
    begun = 0.02 * torch.randn(dapt.PATCHES, 160, generator=torch.Generator().manual_seed(0))
    assert bool(((learned.patches - begun).abs().amax(1) > dapt.LEARNING_RATE / 2).all())
    words = dapt.clip_text(parts).embed_words(dapt.CONTEXT)
    assert bool(((learned.words - words).abs().amax(1) > dapt.LEARNING_RATE / 2).all())
    assert all(torch.equal(weight, before[name]) for name, weight in parts.model.state_dict().items())
    again = fit_dapt(parts, pixels, truth, LABELS, 0)
    assert torch.equal(learned.words, again.words)
    assert torch.equal(learned.patches, again.patches)
    found = predict(parts, learned, LABELS, pixels)
    assert np.allclose(found.sum(1), 1)
    assert found.shape == (24, 3)


def test_the_loss_falls(parts: Parts, monkeypatch: pytest.MonkeyPatch):
    """Cross-entropy and both dispersions, before and after."""
    monkeypatch.setattr(dapt, "STEPS", 30)
    pixels, truth = images(parts, 48), np.arange(48) % 3
    texts = dapt.embed_labels(parts, dapt.clip_text(parts).embed_words(dapt.CONTEXT), LABELS)
    plain = dapt._embed(cast(Clip, parts.model), dapt.Normalise(parts.preprocessing), pixels, None)
    before = F.cross_entropy(parts.model.logit_scale.exp() * plain @ texts.T, torch.from_numpy(truth))
    after = -np.log(predict(parts, fit_dapt(parts, pixels, truth, LABELS, 0), LABELS, pixels)[np.arange(48), truth]).mean()
    assert after < float(before)


def compare(labelled: Path, output: Path, shots: int = 8, **options: Any) -> Any:
    study = Study(systems=("zero-shot", "clip-tuned", "dapt"), shots=(shots,), test=4, seeds=1)
    recipe = Recipe(init="random", image_size=64, epochs=1)
    return tagger.compare(labelled, output, CONFIG, study=study, recipe=recipe, machine=tagger.Machine(workers=0), **options)


@pytest.mark.parametrize("shots", [1, 8])
def test_a_comparison_has_both_systems(labelled: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, shots: int):
    """Also where each label has one row, so that none is held out to choose by."""
    monkeypatch.setattr(dapt, "STEPS", 10)
    compare(labelled, tmp_path / "study", shots, model=SAMPLE / "model")
    scores = json.loads((tmp_path / "study" / "comparison.json").read_text())["scores"]
    assert [one["system"] for one in scores] == ["zero-shot", "clip-tuned", "dapt"]
    assert all(one["accuracy"]["mean"] > 0.5 for one in scores)


def test_a_model_that_cannot_be_changed_is_refused(labelled: Path, tmp_path: Path):
    with pytest.raises(ConfigError, match="expected a CLIP or MetaCLIP 2 for clip-tuned and dapt, found another; name one"):
        compare(labelled, tmp_path / "study", model=make_siglip(tmp_path / "siglip"))
