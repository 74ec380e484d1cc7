"""Methods that fit a head: each paper's formula on small tensors, computed by hand, and what holds for all of them."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tagger.core.errors import ManifestError
from tagger.training.gaussian_head import gaussian_head, shrunk_precision
from tagger.training.head_methods import METHODS
from tagger.training.kernel_heads import fit_tip_adapter, ridge_values
from tagger.training.labelled_embeddings import LabelledEmbeddings
from tagger.training.linear_probes import clap_multipliers, fit_clap, fit_linear
from tests.helpers.labelled_embeddings import clusters, labelled


def test_the_precision_is_d_times_the_inverse_of_scatter_and_trace():
    # scatter diag(2, 0), N - 1 = 1, so S = diag(2, 0) and its trace 2: 2 diag(2 + 2, 0 + 2)^-1
    assert shrunk_precision(torch.tensor([[1.0, 0.0], [-1.0, 0.0]])).tolist() == [[0.5, 0.0], [0.0, 1.0]]


def test_the_gaussian_head_is_means_times_precision():
    rows = labelled([[1, 0], [0.6, 0.8], [0, 1], [-0.6, 0.8]], [0, 0, 1, 1], [[1, 0], [0, 1]])
    # Centred rows are (0.2, -0.4), (-0.2, 0.4), (0.3, 0.1), (-0.3, -0.1): scatter [[0.26, -0.1], [-0.1, 0.34]], trace / 3 = 0.2
    precision = 2 * torch.linalg.inv(torch.tensor([[0.46, -0.1], [-0.1, 0.54]]))
    means = torch.tensor([[0.8, 0.4], [-0.3, 0.9]])
    head = gaussian_head(rows)
    torch.testing.assert_close(head.weight, means @ precision)
    torch.testing.assert_close(head.bias, -0.5 * torch.stack([mean @ precision @ mean for mean in means]))


def test_tip_adapter_adds_the_labels_of_near_rows():
    rows = labelled([[1, 0], [0, 1]], [0, 1], [[1, 0], [0, 1]])  # a row each: alpha 1 and beta 5.5
    logits = fit_tip_adapter(rows, 0)(torch.tensor([[1.0, 0.0]]))
    torch.testing.assert_close(logits, torch.tensor([[10 + 1.0, math.exp(-5.5)]]))


def test_proker_solves_the_ridge_regression_of_what_zero_shot_leaves():
    rows = labelled([[1, 0], [0, 1]], [0, 1], [[0.6, 0.8], [0.8, 0.6]])
    (values,) = ridge_values(rows, 1.0, [3.0])
    near = math.exp(-1)
    system = torch.tensor([[4, near], [near, 4]])
    torch.testing.assert_close(values, 10 * torch.linalg.inv(system) @ torch.tensor([[0.4, -0.8], [-0.8, 0.4]]))


def test_clap_holds_a_label_by_the_mean_probability_on_its_rows():
    rows = labelled([[1, 0], [0, 1], [0, 1]], [0, 0, 1], [[1, 0], [0, 1], [0, 0]], logit_scale=math.log(2))
    # Probabilities 2/4 1/4 1/4 of the first row, 1/4 2/4 1/4 of the others; the third label has no row.
    torch.testing.assert_close(clap_multipliers(rows), torch.tensor([0.375, 0.5, 1.0]))


def test_clap_takes_a_step_in_the_length_of_clips_text_embeddings(monkeypatch):
    monkeypatch.setattr("tagger.training.linear_probes.CLAP_STEPS", 1)
    rows = labelled([[0.6, 0.8], [0, 1]], [0, 1], [[1, 0], [0, 1]], logit_scale=1.0)
    # Logits of the first row are 0.6 and 0.8; its residual of either label is q = 1 / (1 + e^-0.2) off, the second's 1 / (1 + e).
    # Of label 0, w = (10, 0): the gradient across w is half the residuals times the rows' second parts, over w's length.
    first, second = 1 / (1 + math.exp(-0.2)), 1 / (1 + math.e)
    across = (-first * 0.8 + second * 1) / 2 / 10
    turned = torch.tensor([10, -0.1 * across])
    torch.testing.assert_close(fit_clap(rows, 0).weight[0], turned / turned.norm())


def test_linear_takes_steps_of_the_lipschitz_bounds(monkeypatch):
    monkeypatch.setattr("tagger.training.linear_probes.BLEND_ROUNDS", 1)
    rows = labelled([[1, 0], [0, 1]], [0, 1], [[1, 0], [0, 1]], logit_scale=0.0)
    # F^T F / N = I / 2: a step of 2 / 0.5 = 4 for w. Logits are the identity; a residual is q = 1 / (1 + e) off either way.
    q = 1 / (1 + math.e)
    weight = torch.tensor([[1 + 2 * q, -2 * q], [-2 * q, 1 + 2 * q]])
    # Then the logits differ by 1 + 4 q. An alpha's bound is half of the mean of (f t)^2 = 1/2: a step of 4.
    alpha = 4 * (1 / (1 + math.exp(1 + 4 * q))) / 2
    torch.testing.assert_close(fit_linear(rows, 0).weight, weight + alpha * torch.eye(2))


@pytest.mark.parametrize("method", METHODS)
def test_labels_without_a_meaning_in_text_are_learned(method):
    rows, unseen = clusters(1, shots=20, meaningless=True), clusters(1, shots=20)
    head = METHODS[method](rows, 0)
    least = 0.6 if method == "clap" else 0.9  # its steps are made for text that means something
    assert (head(unseen.embeddings).argmax(1) == unseen.truth).float().mean() > least


@pytest.mark.parametrize("method", METHODS)
@settings(max_examples=3, deadline=None)
@given(seed=st.integers(0, 1000), order=st.permutations(range(3)))
def test_another_order_of_the_labels_orders_the_logits(method, seed, order):
    rows = clusters(seed, shots=1)  # without folds, whose split goes by the numbers of the labels
    place = torch.tensor(order)
    other = LabelledEmbeddings(
        embeddings=rows.embeddings,
        truth=torch.argsort(place)[rows.truth],
        label_embeddings=rows.label_embeddings[place],
        logit_scale=10,
    )
    first, second = METHODS[method](rows, 0)(rows.embeddings), METHODS[method](other, 0)(rows.embeddings)
    torch.testing.assert_close(second, first[:, place], rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("method", METHODS)
def test_rows_that_are_all_the_same_give_finite_logits(method):
    rows = labelled([[1, 0]] * 6, [0, 0, 0, 1, 1, 1], [[1, 0], [0, 1], [0.6, 0.8]])
    assert torch.isfinite(METHODS[method](rows, 0)(rows.embeddings)).all()


def test_one_label_and_a_nan_are_refused():
    with pytest.raises(ManifestError, match="expected rows of two labels or more to learn from, found 2 rows of 1"):
        labelled([[1, 0], [0, 1]], [0, 0], [[1, 0], [0, 1]])
    with pytest.raises(ManifestError, match="found NaN or infinity"):
        labelled([[math.nan, 0], [0, 1]], [0, 1], [[1, 0], [0, 1]])


@pytest.mark.parametrize("method", ["linear", "clap"])
def test_a_loss_that_is_not_finite_is_refused(method):
    with pytest.raises(ManifestError, match=f"expected {method} to end at a finite loss, found NaN"):
        METHODS[method](labelled([[1, 0], [0, 1]], [0, 1], [[1, 0], [0, 1]], logit_scale=math.inf), 0)


def test_a_group_is_on_one_side():
    rows = labelled([[1, 0], [0, 1]] * 6, [0, 1] * 6, [[1, 0], [0, 1]], groups=[0, 1, 0, 1, 2, 3, 2, 3, 4, 5, 4, 5])
    held_out = [set(rows.groups[part].tolist()) for _, part in rows.folds(3, 0)]
    assert sorted(number for part in held_out for number in part) == [0, 1, 2, 3, 4, 5]


@pytest.mark.parametrize("method", ["gda", "linear", "clap", "proker"])
def test_a_label_without_rows_stays_possible(method):
    rows = clusters(1, classes=4)
    absent = rows.part(torch.nonzero(rows.truth != 3).squeeze(1))
    found = METHODS[method](absent, 0)(rows.label_embeddings).argmax(1)
    assert found.tolist() == [0, 1, 2, 3]
