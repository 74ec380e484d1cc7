"""Embeddings -> logits -> decisions."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from tagger.settings.attributes import Attribute, Label, taxonomy_hash
from tagger.tagging.decisions import decide
from tagger.tagging.heads import ZeroShotHead, softmax

KIND = Attribute(name="kind", labels=("hat", "bag", "shoes"), review_below=0.5)


def test_a_label_is_the_normalised_mean_of_its_prompts():
    x, y = np.eye(2, dtype=np.float32)
    head = ZeroShotHead([np.stack([x, y]), y[None]], logit_scale=10.0)
    logits = head(x[None])
    assert logits.dtype == np.float32
    assert np.allclose(logits, [[10 / 2**0.5, 0.0]])


@given(st.lists(st.lists(st.floats(-100, 100, width=32), min_size=3, max_size=3), min_size=1, max_size=5))
def test_the_softmax_is_that_of_torch(logits: list[list[float]]):
    found = softmax(np.array(logits, np.float32))
    assert found.dtype == np.float32
    assert np.allclose(found, torch.tensor(logits).softmax(1).numpy(), atol=1e-6)


def test_the_best_label_comes_first_and_the_uncertain_are_marked():
    decision = decide(np.array([[0.1, 0.7, 0.2], [0.4, 0.3, 0.3]], np.float32), np.array(["clip", "resnet18"]), "kind", [0.5] * 3)
    assert decision.top.tolist() == [[1, 2, 0], [0, 1, 2]]
    assert np.allclose(decision.confidence, [[0.7, 0.2, 0.1], [0.4, 0.3, 0.3]])
    assert decision.review == (None, "low-confidence: kind 0.400 is below 0.5")


def test_the_winning_label_has_its_own_threshold():
    probabilities = np.array([[0.7, 0.3, 0], [0.3, 0.7, 0], [0, 0, 1]], np.float32)
    decision = decide(probabilities, np.array(["clip"] * 3), "kind", [0.6, 0.8, 1])
    assert decision.review == (
        None,
        "low-confidence: kind 0.700 is below 0.8",
        "low-confidence: kind 1.000, and review_below is 1",
    )


def test_a_label_has_its_own_threshold_or_the_attributes():
    labels = ("hat", Label(name="bag", review_below=0.0), Label(name="shoes", review_below=1))
    assert Attribute(name="kind", labels=labels, review_below=0.5).thresholds == (0.5, 0.0, 1.0)
    assert Attribute(name="kind", labels=labels).thresholds == (0.0, 0.0, 1.0)


def test_labels_that_tie_keep_their_order():
    assert decide(np.full((1, 3), 1 / 3, np.float32), np.array(["clip"]), "kind", [0] * 3).top.tolist() == [[0, 1, 2]]


@given(st.lists(st.floats(-100, 100, width=32), min_size=2, max_size=12))
def test_confidences_are_probabilities_of_the_five_best(logits: list[float]):
    decision = decide(torch.tensor([logits]).softmax(1).numpy(), np.array(["clip"]), "kind", [0] * len(logits))
    assert decision.confidence.shape == (1, min(5, len(logits)))
    assert decision.confidence.dtype == np.float32
    assert decision.confidence.sum() <= 1 + 1e-5
    # Logits closer than float32 can tell apart after the softmax tie.
    assert logits[decision.top[0, 0]] >= max(logits) - 1e-5


def test_a_set_has_the_labels_from_a_probability_on_and_never_none():
    probabilities = np.array([[0.1, 0.6, 0.3], [0.35, 0.35, 0.3], [0.2, 0.0, 0.8]], np.float32)
    found = [decide(probabilities, np.array(["clip"] * 3), "kind", [0] * 3, threshold) for threshold in (0.3, 0.7, 0.0)]
    assert [(one.sets.labels.tolist(), one.sets.sizes.tolist()) for one in found if one.sets] == [
        ([1, 2, 0, 1, 2, 2], [2, 3, 1]),
        ([1, 0, 2], [1, 1, 1]),
        ([1, 2, 0, 0, 1, 2, 2, 0, 1], [3, 3, 3]),
    ]
    assert decide(probabilities, np.array(["clip"] * 3), "kind", [0] * 3).sets is None


@given(st.lists(st.floats(-30, 30, width=32), min_size=2, max_size=9), st.floats(0, 1), st.floats(0, 1))
def test_a_set_begins_with_the_tag_is_ranked_and_grows_as_the_threshold_falls(logits: list[float], one: float, other: float):
    probabilities = torch.tensor([logits]).softmax(1).numpy()
    low, high = (decide(probabilities, np.array(["clip"]), "kind", [0] * len(logits), x) for x in sorted((one, other)))
    assert low.sets is not None
    assert high.sets is not None
    small, large = high.sets.labels.tolist(), low.sets.labels.tolist()
    assert large[: len(small)] == small
    assert small[0] == high.top[0, 0]
    ranked = sorted(range(len(logits)), key=lambda label: -probabilities[0, label])  # Python's sort keeps the order of ties
    assert large == ranked[: len(large)]
    assert low.sets.sizes.tolist() == [len(large)]


def test_prompts_of_a_label_replace_the_templates():
    attribute = Attribute(
        name="kind",
        labels=("hat", Label(name="shoes", prompts=("a pair of shoes",))),
        templates=("a {label}", "the {label}, {x}"),
    )
    assert [attribute.prompts(label) for label in attribute.labels] == [("a hat", "the hat, {x}"), ("a pair of shoes",)]


def test_every_change_of_the_taxonomy_changes_its_hash():
    changes = [
        {},
        {"name": "sort"},
        {"labels": ("bag", "hat", "shoes")},
        {"labels": ("hat", "bag", Label(name="shoes", prompts=("shoes",)))},
        {"templates": ("{label}",)},
        {"review_below": 0.6},
        {"labels": ("hat", "bag", Label(name="shoes", review_below=0.6))},
        {"truth_column": "kind"},
        {"prediction_sets": 0.9},
        {"prediction_sets": 0.8},
    ]
    hashes = {taxonomy_hash([Attribute(**{**KIND.model_dump(), **change})]) for change in changes}
    assert len(hashes) == len(changes)


@pytest.mark.parametrize("count", [1, 2])
def test_the_hash_is_the_same_every_time(count: int):
    assert taxonomy_hash([KIND] * count) == taxonomy_hash([KIND] * count)
