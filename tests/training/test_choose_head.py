"""The choice among methods on held-out rows: what is averaged, what is kept, and how sure that is."""

from __future__ import annotations

import pytest
import torch

from tagger.core.errors import UsageError
from tagger.tagging.heads import KernelHead, LinearHead
from tagger.training import choose_head as module
from tagger.training.choose_head import choose_head
from tagger.training.head_methods import METHODS
from tagger.training.labelled_embeddings import LabelledEmbeddings
from tests.helpers.labelled_embeddings import clusters, labelled


def test_auto_keeps_what_beats_zero_shot_and_nothing_else():
    learned = choose_head(clusters(1, shots=20, meaningless=True))
    assert learned.beats_zero_shot
    assert learned.head is not None
    assert learned.gain == pytest.approx(learned.accuracy - learned.zero_shot_accuracy)
    assert 0 < learned.interval[0] <= learned.gain <= learned.interval[1]
    nothing = choose_head(clusters(1))  # zero-shot is right about all of them
    assert (nothing.head, nothing.method, nothing.beats_zero_shot, nothing.gain) == (None, "zero-shot", False, 0.0)


def test_a_named_method_is_fitted_even_where_it_does_not_beat_zero_shot():
    choice = choose_head(clusters(1), "gda")
    assert isinstance(choice.head, LinearHead)
    assert (choice.method, choice.beats_zero_shot) == ("gda", False)


def accuracies(*shares):
    """Held-out rows of two labels, 100 of them, of which each of the methods has this share right."""
    truth = torch.tensor([0, 1] * 50)
    right = torch.tensor([[4.0, 0.0], [0.0, 4.0]] * 50)
    methods = [torch.where(torch.arange(100)[:, None] < 100 * share, right, right.flip(1)) for share in shares]
    return module._HeldOut(torch.stack(methods), torch.zeros(100, 2), truth)


def test_methods_within_a_standard_error_of_the_best_are_averaged():
    # The best has 0.80 right, whose standard error is (0.8 * 0.2 / 100) ** 0.5 = 0.04
    assert module._recipe(accuracies(0.77, 0.75, 0.80), ("gda", "linear", "clap")).methods == (0, 2)


def test_of_kernels_only_the_best_is_averaged():
    assert module._recipe(accuracies(0.78, 0.79, 0.80), ("gda", "proker", "tip-adapter")).methods == (0, 2)
    assert module._recipe(accuracies(0.70, 0.79, 0.80), ("gda", "proker", "tip-adapter")).methods == (2,)


def test_shares_that_are_as_good_give_the_middle_one():
    held_out = accuracies(0.8)
    held_out = held_out._replace(zero_shot=held_out.logits[0])
    assert module._recipe(held_out, ("gda",)).share == 0.6  # of 0.1 to 1.0


def test_the_recipe_and_the_head_made_of_it_agree():
    rows = clusters(2, shots=6, meaningless=True)
    methods = tuple(METHODS)
    recipe = module._Recipe((0, 1, 3), (0.5, 0.25, 2.0), 3.0, 0.7)
    all_logits = torch.stack([METHODS[method](rows, 0)(rows.embeddings) for method in methods])
    expected = recipe(module._HeldOut(all_logits, rows.zero_shot(rows.embeddings), rows.truth))
    head = module._fit(recipe, list(METHODS.values()), rows, 0)
    assert isinstance(head, KernelHead)
    torch.testing.assert_close(head(rows.embeddings), expected, rtol=1e-4, atol=1e-4)


def test_what_fitted_the_head_fits_it_again():
    rows = clusters(2, shots=6, meaningless=True)
    choice = choose_head(rows)
    assert choice.head is not None
    assert choice.fit is not None
    assert torch.equal(choice.fit(rows, 0)(rows.embeddings), choice.head(rows.embeddings))


def test_copies_of_a_row_make_it_no_surer():
    rows = clusters(3, shots=6, meaningless=True)
    copies = torch.arange(len(rows)).repeat(4)
    copied = LabelledEmbeddings(
        embeddings=rows.embeddings[copies],
        truth=rows.truth[copies],
        label_embeddings=rows.label_embeddings,
        logit_scale=rows.logit_scale,
        groups=copies,
    )
    once, often = choose_head(rows, "gda").interval, choose_head(copied, "gda").interval
    assert often[1] - often[0] > 0.7 * (once[1] - once[0])


def test_one_row_of_each_label_cannot_judge():
    rows = clusters(1, shots=1)
    assert (choose_head(rows).head, choose_head(rows).folds) == (None, 0)
    assert isinstance(choose_head(rows, "proker").head, KernelHead)


def test_rows_of_one_product_cannot_judge():
    rows = labelled([[1, 0], [1, 0], [0, 1], [0, 1]], [0, 0, 1, 1], [[1, 0], [0, 1]], groups=[0, 0, 1, 1])
    assert choose_head(rows).folds == 0


def test_with_very_many_labels_some_rows_are_held_out(monkeypatch):
    monkeypatch.setattr("tagger.training.labelled_embeddings.HELD_OUT_LOGITS", 5 * 3 * 2)
    rows = clusters(1, shots=20)
    assert [len(held_out) for _, held_out in rows.folds(5, 0)] == [2] * 5
    assert [len(fitted) for fitted, _ in rows.folds(5, 0)] == [48] * 5


def test_a_method_that_is_not_there_is_refused():
    with pytest.raises(UsageError, match="--method: expected one of auto, gda, .*, found lda"):
        choose_head(clusters(1), "lda")
