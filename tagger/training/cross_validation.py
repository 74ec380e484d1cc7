"""Labelled rows -> the best of some settings of a method, on rows that it was not fitted on."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import torch
import torch.nn.functional as F
from torch import Tensor

from tagger.training.labelled_embeddings import LabelledEmbeddings

FOLDS = 5


def best_setting(
    rows: LabelledEmbeddings, seed: int, default: int, score: Callable[[LabelledEmbeddings, Tensor], Iterable[Tensor]]
) -> int:
    """Return the number of the setting with the most correct rows, of those the one with the lowest mean cross-entropy.

    score: for rows to fit on and embeddings to judge with, logits float32 (M, K) of each setting in turn. A row whose label has
    no row to fit on says nothing about a setting and is left out; default: the answer where no row is left.
    """
    found: list[list[Tensor]] = []
    for fitted, held_out in rows.folds(FOLDS, seed):
        held_out = held_out[fitted.counts[rows.truth[held_out]] > 0]
        truth = rows.truth[held_out]
        if len(held_out):
            logits = score(fitted, rows.embeddings[held_out])
            found.append(
                [torch.stack([-(one.argmax(1) == truth).sum(), F.cross_entropy(one, truth, reduction="sum")]) for one in logits]
            )
    totals = [sum(fold, torch.zeros(2)).tolist() for fold in zip(*found, strict=True)]
    return min(range(len(totals)), key=totals.__getitem__) if totals else default
