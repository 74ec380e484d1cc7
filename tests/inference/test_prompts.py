"""Embeddings of prompts: the same with or without others, and kept."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from torch import Tensor

from tagger.encoders.clip import ClipEncoder
from tagger.inference.prompts import PromptEmbeddings
from tagger.inference.store import Store

LIMIT = 1_000_000_000
PROMPTS = ["A photo of a dress.", "a dress", "a product photo of a very long and very green winter coat with many pockets"]


class Counting:
    """The encoder, and every prompt that it was asked to encode."""

    def __init__(self, encoder: ClipEncoder) -> None:
        self.weights, self.device_type, self.dimension = encoder.weights, encoder.device_type, encoder.dimension
        self.asked: list[str] = []
        self._encoder = encoder

    def encode_prompts(self, prompts: Sequence[str]) -> Tensor:
        self.asked += prompts
        return self._encoder.encode_prompts(prompts)


def test_a_prompt_is_the_same_to_the_bit_whatever_others_there_are(encoder: ClipEncoder):
    embed = PromptEmbeddings(encoder, Store())
    together = embed([*PROMPTS, *(f"a photo of number {number}" for number in range(40))])
    assert np.array_equal(together[:3], np.concatenate([embed([prompt]) for prompt in PROMPTS]))


def test_a_prompt_is_encoded_once(encoder: ClipEncoder, tmp_path: Path):
    counting = Counting(encoder)
    first = PromptEmbeddings(counting, Store(tmp_path, LIMIT))([*PROMPTS, PROMPTS[0]])
    again = PromptEmbeddings(counting, Store(tmp_path, LIMIT))(["new", *reversed(PROMPTS)])
    assert counting.asked == [*PROMPTS, "new"]
    assert np.array_equal(again[1:], first[2::-1])
    assert np.array_equal(first[0], first[3])


def test_prompts_of_other_weights_are_others(encoder: ClipEncoder, tmp_path: Path):
    counting = Counting(encoder)
    PromptEmbeddings(counting, Store(tmp_path, LIMIT))(PROMPTS)
    counting.weights = "others"
    PromptEmbeddings(counting, Store(tmp_path, LIMIT))(PROMPTS)
    assert counting.asked == PROMPTS * 2
