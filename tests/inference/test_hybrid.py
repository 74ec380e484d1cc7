"""Two systems on one attribute: whose decision an image has, and by what name."""

from __future__ import annotations

import copy

import numpy as np
import pytest

from tagger.encoders.clip import ClipEncoder
from tagger.inference.hybrid import Hybrid
from tagger.inference.predictor import Predictor
from tagger.tagging.decisions import average
from tests.inference.test_predictor import images

NAME = "siglip-base-patch-16"  # of 20 letters, more than any source of today has


@pytest.fixture
def second(encoder: ClipEncoder, predictor: Predictor) -> Predictor:
    """A more confident system than the predictor, of a long name."""
    renamed = copy.copy(encoder)
    renamed.source = NAME
    return predictor.with_encoder(renamed).with_temperatures([0.5])


@pytest.mark.parametrize(("below", "expected"), [(2.0, NAME), (None, "hybrid")])
def test_a_source_keeps_its_whole_name(predictor: Predictor, second: Predictor, below: float | None, expected: str):
    hybrid = Hybrid(predictor, second, 0, below=below)
    embeddings = predictor.encode(images(6))()
    shown = np.arange(6) % 2 == 0
    [decision] = hybrid.decide(embeddings, embeddings[shown], shown)
    assert decision.source.tolist() == [expected, "clip"] * 3
    [first], [other] = predictor.probabilities(embeddings), second.probabilities(embeddings)
    decided = other if below else average(first, other, 0.5, 1.0)
    assert decision.confidence.tolist() == (-np.sort(-np.where(shown[:, None], decided, first)))[:, :5].tolist()


def test_a_first_source_keeps_its_whole_name(predictor: Predictor, second: Predictor):
    hybrid = Hybrid(second, predictor, 0, below=2.0)
    embeddings = predictor.encode(images(4))()
    [decision] = hybrid.decide(embeddings, embeddings, np.ones(4, np.bool_))
    assert decision.source.tolist() == [NAME] * 4  # the less confident second decides nothing
