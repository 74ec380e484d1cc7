"""What encoding costs, from a configuration: as many operations as the real tower does."""

from __future__ import annotations

import pytest
import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from tagger.core.errors import ModelError
from tagger.encoders.cost import cost_of_clip


def test_the_operations_are_those_of_the_tower(encoder, small_clip):
    cost, here = cost_of_clip(str(small_clip), None, False)
    with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:  # the others' are not counted on a CPU
        encoder.encode(torch.zeros((1, 3, 64, 64), dtype=torch.uint8))
    assert here
    assert cost.operations == pytest.approx(counter.get_total_flops(), rel=0.01)


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
