"""Pixels are normalised to the same bits as ever: results and caches depend on the last one."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from tagger.core.types import Preprocessing
from tagger.encoders.normalise import Normalise

MEAN, STD = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)
CLIP = Preprocessing(resize=8, crop=(8, 8), resample=3, rescale=1 / 255, mean=MEAN, std=STD)
PIXELS = torch.arange(256, dtype=torch.uint8).repeat(3).reshape(1, 3, 16, 16)


@pytest.mark.parametrize("rescale", [1 / 255, 0.00392156862745098, 1.0])
def test_clip_divides_in_float64_and_rounds_once(rescale: float):
    mean = torch.tensor([value / rescale for value in MEAN])[:, None, None]
    std = torch.tensor([value / rescale for value in STD])[:, None, None]
    found = Normalise(replace(CLIP, rescale=rescale))(PIXELS)
    assert found.dtype == torch.float32
    assert torch.equal(found, (PIXELS.float() - mean) / std)


@pytest.mark.parametrize("rescale", [1 / 255, 1.0])
def test_a_resnet18_divides_in_float32(rescale: float):
    mean, std = (torch.tensor(values)[:, None, None] / rescale for values in (MEAN, STD))
    found = Normalise(replace(CLIP, rescale=rescale), torch.float32)(PIXELS)
    assert torch.equal(found, (PIXELS.float() - mean) / std)


def test_the_two_differ_in_the_last_bit():
    first, second = Normalise(CLIP)(PIXELS), Normalise(CLIP, torch.float32)(PIXELS)
    assert not torch.equal(first, second)
    assert float((first - second).abs().max()) < 1e-6
