"""What encoding costs, counted without weights: as many operations as the real towers do."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from tagger.core.errors import ModelError
from tagger.core.types import Preprocessing
from tagger.encoders.clip import load_clip
from tagger.encoders.cost import cost_of_clip, cost_of_resnet18
from tagger.encoders.resnet18_checkpoint import METADATA_KEY, ResNet18Description, read_description
from tests.encoders.test_clip import broken
from tests.helpers.checkpoints import MAKERS, OPEN_CLIP


def write_resnet18(path: Path, side: int) -> Path:
    """Write a checkpoint's description, without its weights, which are not read."""
    numbers = (0.5, 0.5, 0.5)
    preprocessing = Preprocessing(resize=side, crop=(side, side), resample=3, rescale=1 / 255, mean=numbers, std=numbers)
    described = ResNet18Description(
        attribute="kind",
        labels=("hat", "bag"),
        preprocessing=preprocessing,
        recipe={},
        metrics={},
        manifest="",
        versions={},
    )
    save_file({"none": torch.zeros(1)}, path, metadata={METADATA_KEY: described.model_dump_json()})
    return path


def test_the_operations_are_those_of_the_tower(encoder, small_clip):
    cost, here = cost_of_clip(str(small_clip), None, False)
    with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:  # the others' are not counted on a CPU
        encoder.encode(torch.zeros((1, 3, 64, 64), dtype=torch.uint8))
    assert here
    assert cost.operations == pytest.approx(counter.get_total_flops(), rel=0.01)


@pytest.fixture
def no_fused_attention() -> Iterator[None]:
    """The counter does not see what nn.MultiheadAttention computes in one piece."""
    torch.backends.mha.set_fastpath_enabled(False)
    yield
    torch.backends.mha.set_fastpath_enabled(True)


@pytest.mark.parametrize("kind", MAKERS | OPEN_CLIP)
def test_the_operations_of_other_kinds_are_those_of_their_towers(tmp_path: Path, kind: str, no_fused_attention: None):
    folder = (MAKERS | OPEN_CLIP)[kind](tmp_path / "model")
    encoder = load_clip(str(folder), None, torch.device("cpu"))
    cost, here = cost_of_clip(str(folder), None, False)
    with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
        encoder.encode(torch.zeros((1, 3, *encoder.preprocessing.size), dtype=torch.uint8))
    assert here
    assert cost.operations == pytest.approx(counter.get_total_flops(), rel=0.01)
    assert cost.preprocessing == encoder.preprocessing
    assert 0 < cost.image_weights < cost.weights
    assert cost.prompt_operations > 0


def test_the_operations_of_a_prompt_are_those_of_every_layers_weights(small_clip):
    """Kaplan et al. 2020, table 1: two operations a weight and token; the attention of one token to itself adds 4 d a layer."""
    cost, _ = cost_of_clip(str(small_clip), None, False)
    text = json.loads((small_clip / "config.json").read_text())["text_config"]
    d, f = text["hidden_size"], text["intermediate_size"]
    assert cost.prompt_operations == text["num_hidden_layers"] * (2 * (4 * d * d + 2 * d * f) + 4 * d)


@pytest.mark.parametrize("side", [224, 160])
def test_the_operations_of_a_resnet18_are_those_of_its_authors(tmp_path, side):
    """He et al. 2015, table 1: 1.8e9 multiplications and additions for an image of 224 x 224."""
    path = write_resnet18(tmp_path / "resnet18.safetensors", side)
    cost = cost_of_resnet18(read_description(str(path)), exact=False)
    assert cost.operations == pytest.approx(2 * 1.8e9 * (side / 224) ** 2, rel=0.02)
    assert cost.weights == cost.image_weights == 11_689_512 - 998 * 513  # two labels in place of a thousand classes
    assert cost.activations == 2 * 64 * (side // 2) ** 2
    assert cost.preprocessing.size == (side, side)


def test_a_model_that_cannot_encode_its_own_images_is_refused_as_by_a_run(small_clip, tmp_path):
    sizes = {"size": {"shortest_edge": 96}, "crop_size": {"height": 96, "width": 96}}
    resized = broken(small_clip, tmp_path, preprocessing=sizes)
    with pytest.raises(ModelError, match=f"model {resized}: expected a CLIP checkpoint in transformers' format, found: "):
        cost_of_clip(str(resized), None, False)


def test_the_weights_are_those_of_the_model(encoder, small_clip):
    cost, _ = cost_of_clip(str(small_clip), None, False)
    assert cost.weights == 2_430_593
    assert cost.image_weights == sum(weight.numel() for weight in encoder.tower.transformer.parameters())
    assert cost.preprocessing == encoder.preprocessing


def test_what_is_not_here_is_taken_for_vit_b_32(monkeypatch, tmp_path):
    cost, here = cost_of_clip("acme/none", None, False)
    assert not here
    # 4.4 GFLOPs of one multiplication and addition each, but for the sixteenth that the tower spares
    assert cost.operations == pytest.approx(2 * 4.4e9 * 15 / 16, rel=0.02)
    assert cost.weights == 151_277_313
    assert cost.preprocessing.size == (224, 224)
    with pytest.raises(ModelError, match=r"model \./none: expected a folder with a CLIP checkpoint, found none"):
        cost_of_clip("./none", None, False)
