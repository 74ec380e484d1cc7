"""Tonight's head against yesterday's: on rows that neither has seen, and by the mean of the labels' recalls."""

from __future__ import annotations

import numpy as np
import torch

from tagger.tagging.heads import LinearHead
from tagger.training.choose_head import recall_weights
from tagger.training.earlier_head import Duel, compare_with_earlier
from tests.helpers.labelled_embeddings import clusters


def constant(label: int) -> LinearHead:
    """A head that says the same of every image."""
    return LinearHead(np.zeros((3, 16), np.float32), np.eye(3, dtype=np.float32)[label])


def test_only_rows_that_the_earlier_head_has_not_seen_are_counted():
    rows = clusters(1, shots=10)
    unseen = torch.arange(len(rows)) % 10 < 4
    assert compare_with_earlier(rows, unseen, constant(0), lambda part, _: part.zero_shot, 0) == Duel(12, 12, 4, 1.0)
    assert compare_with_earlier(rows, unseen & False, constant(0), lambda part, _: part.zero_shot, 0) is None


def test_a_label_counts_as_much_as_another_however_many_rows_it_has():
    """A queue full of one label does not favour the head that says that label of everything."""
    rows = clusters(1, shots=20)
    many = rows.part(torch.cat([torch.arange(20), torch.tensor([20, 21, 22, 40, 41, 42])]))
    everything = torch.ones(len(many), dtype=torch.bool)
    wrong_of_one = LinearHead(torch.roll(many.zero_shot.weight, 1, 0).numpy(), np.zeros(3, np.float32))
    duel = compare_with_earlier(many, everything, wrong_of_one, lambda part, _: part.zero_shot, 0)
    assert duel is not None
    assert (duel.new, duel.earlier, duel.better) == (26, 0, 1.0)
    duel = compare_with_earlier(many, everything, constant(0), lambda part, _: part.zero_shot, 0)
    assert duel is not None
    assert duel.earlier == 20
    assert duel.better > 0.99


def test_weights_make_the_mean_that_of_recalls():
    truth = torch.tensor([0, 0, 0, 2])
    right = torch.tensor([1.0, 1.0, 0.0, 1.0])
    assert float((recall_weights(truth) * right).mean()) == (2 / 3 + 1) / 2
