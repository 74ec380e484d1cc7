"""Tonight's head against yesterday's, on rows that neither was fitted on."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from tagger.evaluation.paired import paired_difference
from tagger.training.choose_head import recall_weights
from tagger.training.head_methods import Fit, Head
from tagger.training.labelled_embeddings import LabelledEmbeddings

FOLDS = 5


class Duel(NamedTuple):
    """How many of the rows that neither head was fitted on each of them gets right.

    better: the probability, by a paired bootstrap, that the new one's mean of the labels' recalls is the higher one.
    """

    rows: int
    new: int
    earlier: int
    better: float


def compare_with_earlier(rows: LabelledEmbeddings, unseen: Tensor, earlier: Head, fit: Fit, seed: int) -> Duel | None:
    """Compare what `fit` makes of the rows with an earlier head; None where there is no row to compare them on.

    unseen: bool (N,), the rows that the earlier head was not fitted on. Each of them is judged by a new head that the rows of
    other folds fitted, a fifth fewer than fit the one that is written. Two things favour the new head all the same: all rows
    chose its method and share, and rows of a review queue are those that the earlier head was unsure of.
    """
    places, new = [], []
    for fitted, held_out in rows.folds(FOLDS, seed) if bool(unseen.any()) else ():
        fresh = held_out[unseen[held_out]]
        if len(fresh):
            places.append(fresh)
            new.append(fit(fitted, seed)(rows.embeddings[fresh]).argmax(1))
    if not places:
        return None
    place = torch.cat(places)
    truth, weights = rows.truth[place], recall_weights(rows.truth[place])
    own = torch.cat(new) == truth
    other = torch.from_numpy(earlier(rows.embeddings[place].numpy()).argmax(1)) == truth
    groups = rows.group_of_row[place.numpy()]
    difference = paired_difference((weights * own).numpy(), (weights * other).numpy(), groups)
    return Duel(len(place), int(own.sum()), int(other.sum()), difference.better)
