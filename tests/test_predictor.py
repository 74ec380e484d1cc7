"""Images -> decisions, whatever their number and whatever the accelerator's memory."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tagger.errors import StoppedError
from tagger.predictor import Predictor
from tagger.types import ImageBatch


def images(count: int, seed: int = 0) -> ImageBatch:
    pixels = torch.randint(0, 256, (count, 3, 64, 64), dtype=torch.uint8, generator=torch.Generator().manual_seed(seed))
    return ImageBatch(np.arange(count), pixels, {})


@given(sizes=st.lists(st.integers(1, 70), min_size=1, max_size=4))
@settings(max_examples=20, deadline=None)
def test_an_image_has_the_same_confidences_in_batches_of_any_size(predictor: Predictor, sizes: list[int]):
    whole = images(sum(sizes))
    [together] = predictor.predict(whole)
    start = 0
    for size in sizes:
        part = ImageBatch(np.arange(size), whole.pixels[start : start + size], {})
        [alone] = predictor.predict(part)
        assert (alone.confidence == together.confidence[start : start + size]).all()
        assert (alone.top == together.top[start : start + size]).all()
        start += size


def test_an_accelerator_without_memory_gets_fewer_images_at_once(encoder, predictor, monkeypatch, caplog):
    """The encoder is real; what fails is what a small GPU would refuse."""
    [wanted] = predictor.predict(images(70))
    encode, seen = encoder.encode, []

    def small_device(pixels: torch.Tensor) -> torch.Tensor:
        if len(pixels) > 10:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 1.00 GiB.")
        seen.append(len(pixels))
        return encode(pixels)

    monkeypatch.setattr(encoder, "encode", small_device)
    small = Predictor(encoder, predictor.attributes)
    [found] = small.predict(images(70))
    assert seen == [8] * 9  # the last one padded
    np.testing.assert_array_equal(found.top, wanted.top)
    np.testing.assert_allclose(found.confidence, wanted.confidence, atol=1e-5)
    assert caplog.messages == [
        "cpu: too little memory for 32 images at once; going on with fewer, whose confidences may differ in the last digits from "
        "those of a run that has more"
    ]


def test_an_accelerator_without_memory_for_one_image_stops_the_run(encoder, predictor, monkeypatch):
    def full_device(pixels: torch.Tensor) -> torch.Tensor:
        raise torch.OutOfMemoryError("CUDA out of memory.")

    monkeypatch.setattr(encoder, "encode", full_device)
    with pytest.raises(StoppedError, match="expected memory for one image, found: CUDA out of memory"):
        Predictor(encoder, predictor.attributes).predict(images(3))


def test_any_other_error_of_an_accelerator_stops_the_run_and_one_of_the_cpu_is_a_fault(encoder, predictor, monkeypatch):
    def broken_device(pixels: torch.Tensor) -> torch.Tensor:
        raise RuntimeError("CUDA error: an illegal memory access was encountered\nCompile with …")

    monkeypatch.setattr(encoder, "encode", broken_device)
    with pytest.raises(RuntimeError, match="illegal memory access"):
        predictor.predict(images(3))
    monkeypatch.setattr(encoder, "device", torch.device("cuda:0"))
    with pytest.raises(StoppedError, match="cuda:0: expected it to encode images, found: CUDA error: an illegal memory access"):
        predictor.predict(images(3))
