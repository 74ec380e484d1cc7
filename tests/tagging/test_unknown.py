"""Scores of how well an image fits any of the labels: the papers' formulas, by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tagger.tagging.decisions import decide
from tagger.tagging.heads import normalise
from tagger.tagging.unknown import ConceptScore, NegativeLabelScore, PosteriorScore, with_unknown
from tagger.tagging.vocabulary import candidates, choose_negatives

X, Y = np.eye(2, dtype=np.float32)
BETWEEN = np.array([0.6, 0.8], np.float32)


def test_the_nearest_label_scores_and_a_negative_cosine_is_0():
    assert ConceptScore(np.stack([X, BETWEEN]))(np.stack([Y, -X])).tolist() == pytest.approx([0.8, 0.0])


def test_negative_labels_share_the_probability():
    [score] = NegativeLabelScore(X[None], np.stack([Y, BETWEEN]), 2.0)(X[None]).tolist()
    assert score == pytest.approx(math.exp(2) / (math.exp(2) + math.exp(0) + math.exp(1.2)))


def test_classifiers_are_averaged():
    zeros = np.zeros((2, 2), np.float32)
    equal, sure = (zeros, np.zeros(2, np.float32)), (zeros, np.array([math.log(3.0), 0.0], np.float32))
    assert PosteriorScore([equal, sure], labels=1)(X[None]).tolist() == pytest.approx([(0.5 + 0.75) / 2])


@given(st.integers(0, 1_000), st.integers(1, 20), st.floats(0.1, 100))
def test_a_score_is_a_share_that_the_order_of_negatives_does_not_change(seed: int, negatives: int, scale: float):
    rng = np.random.default_rng(seed)
    labels, others, images = (normalise(rng.standard_normal((count, 4)).astype(np.float32)) for count in (3, negatives, 5))
    score = NegativeLabelScore(labels, others, scale)(images)
    assert bool(((score >= 0) & (score <= 1)).all())
    shuffled = rng.permutation(others)
    assert np.allclose(NegativeLabelScore(labels, shuffled, scale)(images), score, atol=1e-5)


def test_an_image_under_the_threshold_is_unknown_for_that_reason_alone():
    decision = decide(np.array([[0.4, 0.6], [0.4, 0.6]], np.float32), np.array(["clip"] * 2), "kind", [0.9, 0.9])
    found = with_unknown(decision, "kind", np.array([0.1, 0.3], np.float32), 0.2)
    assert found.unknown is not None
    assert found.unknown.tolist() == [True, False]
    assert found.review == (
        "unknown: kind 0.100 is below 0.200: none of the labels",
        "low-confidence: kind 0.600 is below 0.9",
    )


def test_neither_kinds_of_a_label_nor_what_it_is_a_kind_of_nor_names_are_negative():
    words = candidates(["shoes", "dress"])
    assert {"shoe", "gym shoe", "sneaker", "footwear", "dress", "gown", "clothing"}.isdisjoint(words)
    assert {"hat", "table", "grapefruit"}.issubset(words)
    assert len(words) == len(set(words)) > 10_000
    assert all(word == word.lower() for word in words)


def test_the_words_farthest_from_the_labels_are_negative():
    assert choose_negatives(np.stack([X, Y, BETWEEN]), X[None], 2).tolist() == [1, 2]
