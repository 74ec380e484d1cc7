"""Images -> embeddings -> decisions, whatever their number and whatever the accelerator's memory."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tagger.core.errors import StoppedError
from tagger.encoders.backends import in_precision
from tagger.inference.predictor import Predictor
from tagger.inference.predictors import zero_shot
from tagger.inference.prompts import PromptEmbeddings
from tagger.inference.store import Store


def images(count: int, seed: int = 0) -> torch.Tensor:
    return torch.randint(0, 256, (count, 3, 64, 64), dtype=torch.uint8, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@given(sizes=st.lists(st.integers(1, 70), min_size=1, max_size=4))
@settings(max_examples=20, deadline=None)
def test_an_image_has_the_same_embedding_in_batches_of_any_size(predictor: Predictor, precision: str, sizes: list[int]):
    encoder = in_precision(predictor.encoder, "torch", precision, at_once=32, folder=None, images=lambda: iter(()))
    predictor = predictor.with_encoder(encoder)
    whole = images(sum(sizes))
    together = predictor.encode(whole)()
    start = 0
    for size in sizes:
        alone = predictor.encode(whole[start : start + size])()
        np.testing.assert_array_equal(alone, together[start : start + size])
        start += size


@given(places=st.lists(st.integers(0, 69), min_size=1, max_size=600))
@settings(max_examples=50, deadline=None)
def test_an_embedding_has_the_same_confidences_in_any_company(predictor: Predictor, places: list[int]):
    embeddings = predictor.encode(images(70))()
    [together] = predictor.decide(embeddings)
    [mixed] = predictor.decide(embeddings[places])
    np.testing.assert_array_equal(mixed.confidence, together.confidence[places])
    np.testing.assert_array_equal(mixed.top, together.top[places])


def test_what_is_made_of_a_predictor_leaves_it_as_it_was(predictor: Predictor):
    other = predictor.with_temperatures([2.0]).encoding_at_once(8)
    assert (other.temperatures, other.at_once, predictor.temperatures, predictor.at_once) == ((2.0,), 8, (1.0,), 32)
    assert not other.lacks_memory
    embeddings = predictor.encode(images(3))()
    logits = [np.log(one.probabilities(embeddings)[0]) for one in (predictor, other)]
    ranges = [values.max(1) - values.min(1) for values in logits]
    np.testing.assert_allclose(ranges[0], 2 * ranges[1], rtol=1e-4)


def test_an_accelerator_without_memory_gets_fewer_images_at_once(encoder, predictor, monkeypatch, caplog):
    """The encoder is real; what fails is what a small GPU would refuse."""
    wanted = predictor.encode(images(70))()
    encode, seen = encoder.encode, []

    def small_device(pixels: torch.Tensor) -> torch.Tensor:
        if len(pixels) > 10:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 1.00 GiB.")
        seen.append(len(pixels))
        return encode(pixels)

    monkeypatch.setattr(encoder, "encode", small_device)
    small = zero_shot(encoder, predictor.attributes, PromptEmbeddings(encoder, Store()))
    found = small.encode(images(70))()
    assert seen == [8] * 9  # the last one padded
    np.testing.assert_allclose(found, wanted, atol=1e-3)
    assert caplog.messages == [
        "cpu: too little memory for 32 images at once; going on with fewer, whose confidences may differ in the last digits from "
        "those of a run that has more"
    ]


def test_an_accelerator_without_memory_for_one_image_stops_the_run(encoder, predictor, monkeypatch):
    def full_device(pixels: torch.Tensor) -> torch.Tensor:
        raise torch.OutOfMemoryError("CUDA out of memory.")

    monkeypatch.setattr(encoder, "encode", full_device)
    with pytest.raises(StoppedError, match="expected memory for one image, found: CUDA out of memory"):
        zero_shot(encoder, predictor.attributes, PromptEmbeddings(encoder, Store())).encode(images(3))


def test_any_other_error_of_an_accelerator_stops_the_run_and_one_of_the_cpu_is_a_fault(encoder, predictor, monkeypatch):
    def broken_device(pixels: torch.Tensor) -> torch.Tensor:
        raise RuntimeError("CUDA error: an illegal memory access was encountered\nCompile with …")

    monkeypatch.setattr(encoder, "encode", broken_device)
    with pytest.raises(RuntimeError, match="illegal memory access"):
        predictor.encode(images(3))
    monkeypatch.setattr(encoder, "device", "cuda:0")
    monkeypatch.setattr(encoder, "device_type", "cuda")
    with pytest.raises(StoppedError, match="cuda:0: expected it to encode images, found: CUDA error: an illegal memory access"):
        predictor.encode(images(3))
