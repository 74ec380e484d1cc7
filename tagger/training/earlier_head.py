"""Tonight's head against yesterday's, on rows that neither was fitted on."""

from __future__ import annotations

from typing import NamedTuple

from torch import Tensor

from tagger.training.head_methods import Fit, Head
from tagger.training.labelled_embeddings import LabelledEmbeddings

FOLDS = 5


class Duel(NamedTuple):
    """How many of the rows that neither head was fitted on each of them gets right."""

    rows: int
    new: int
    earlier: int


def compare_with_earlier(rows: LabelledEmbeddings, unseen: Tensor, earlier: Head, fit: Fit, seed: int) -> Duel | None:
    """Compare what `fit` makes of the rows with an earlier head; None where there is no row to compare them on.

    unseen: bool (N,), the rows that the earlier head was not fitted on. Each of them is judged by a new head that the rows of
    other folds fitted, a fifth fewer than fit the one that is written. Two things favour the new head all the same: all rows
    chose its method and share, and rows of a review queue are those that the earlier head was unsure of.
    """
    judged = new = old = 0
    for fitted, held_out in rows.folds(FOLDS, seed) if bool(unseen.any()) else ():
        fresh = held_out[unseen[held_out]]
        if not len(fresh):
            continue
        embeddings, truth = rows.embeddings[fresh], rows.truth[fresh]
        head = fit(fitted, seed)
        judged += len(fresh)
        new += int((head(embeddings).argmax(1) == truth).sum())
        old += int((earlier(embeddings.numpy()).argmax(1) == truth.numpy()).sum())
    return Duel(judged, new, old) if judged else None
