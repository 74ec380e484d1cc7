"""Labelled rows as methods that fit a head see them: embeddings, truth, and what zero-shot says."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from tagger.core.errors import ManifestError
from tagger.tagging.heads import LinearHead, ZeroShotHead

HELD_OUT_LOGITS = 20_000_000  # of all folds together: 80 MB


@dataclass(frozen=True, eq=False, kw_only=True)
class LabelledEmbeddings:
    """Hold N labelled rows of one attribute with K labels, checked.

    embeddings: float32 (N, D), L2-normalised. truth: int64 (N,), the number of each row's label. label_embeddings: float32
    (K, D), L2-normalised. logit_scale: the model's own. groups: int64 (N,), the same number for rows of one product or nearly
    the same picture, never on both sides of a split; None: each row is a group. Raises ManifestError where there are rows of
    fewer than two labels.
    """

    embeddings: Tensor
    truth: Tensor
    label_embeddings: Tensor
    logit_scale: float
    groups: Tensor | None = None

    def __post_init__(self) -> None:
        if not torch.isfinite(self.embeddings).all():
            raise ManifestError("labelled rows: expected an embedding of each, found NaN or infinity; leave those rows out")
        if (found := len(torch.unique(self.truth))) < 2:
            raise ManifestError(
                f"labelled rows: expected rows of two labels or more to learn from, found {len(self)} rows of {found}; label more"
            )

    @classmethod
    def from_engine(
        cls,
        embeddings: NDArray[Any],
        truth: NDArray[np.int64],
        zero_shot: ZeroShotHead,
        groups: NDArray[np.int64] | None = None,
    ) -> Self:
        """Hold what an engine embedded, float16 or float32 (N, D), with truth and groups, int64 (N,), and its head of prompts."""
        return cls(
            embeddings=torch.from_numpy(embeddings).float(),
            truth=torch.from_numpy(truth),
            label_embeddings=torch.from_numpy(zero_shot.label_embeddings),
            logit_scale=zero_shot.logit_scale,
            groups=None if groups is None else torch.from_numpy(groups),
        )

    def __len__(self) -> int:
        return len(self.truth)

    @property
    def classes(self) -> int:
        """Return K, the number of labels, with and without rows."""
        return len(self.label_embeddings)

    @cached_property
    def counts(self) -> Tensor:
        """Return int64 (K,): the number of each label's rows."""
        return torch.bincount(self.truth, minlength=self.classes)

    @cached_property
    def class_means(self) -> Tensor:
        """Return float32 (K, D): the mean of each label's embeddings, zeros for a label without rows."""
        sums = torch.zeros_like(self.label_embeddings).index_add_(0, self.truth, self.embeddings)
        return sums / self.counts.clamp_min(1)[:, None]

    @cached_property
    def zero_shot(self) -> LinearHead:
        """Return the head that has learned nothing: logits are cosine similarities times the logit_scale."""
        return LinearHead(self.logit_scale * self.label_embeddings, torch.zeros(self.classes))

    def part(self, rows: Tensor) -> LabelledEmbeddings:
        """Return the rows with these indices, int64 (M,)."""
        return LabelledEmbeddings(
            embeddings=self.embeddings[rows],
            truth=self.truth[rows],
            label_embeddings=self.label_embeddings,
            logit_scale=self.logit_scale,
            groups=None if self.groups is None else self.groups[rows],
        )

    @cached_property
    def group_of_row(self) -> NDArray[np.int64]:
        """Return int64 (N,): the number of each row's group, from 0 and without gaps."""
        groups = np.arange(len(self)) if self.groups is None else self.groups.numpy()
        return np.unique(groups, return_inverse=True)[1].reshape(-1)

    @property
    def can_be_split(self) -> bool:
        """Say whether a label has rows in two groups: one to hold out while the other is fitted on."""
        pairs = np.unique(np.stack([self.truth.numpy(), self.group_of_row]), axis=1)
        return len(pairs[0]) > len(np.unique(pairs[0]))

    def folds(self, count: int, seed: int) -> Iterator[tuple[LabelledEmbeddings, Tensor]]:
        """Yield `count` times rows to fit on and int64 indices of the others, which are each held out once.

        A group goes as a whole; the groups of each label are spread evenly. A split is left out that would leave one label to fit
        on, or no row to hold out. With very many labels only some rows are held out: HELD_OUT_LOGITS bounds what is kept of them.
        """
        most = max(1, HELD_OUT_LOGITS // self.classes // count)
        _, first = np.unique(self.group_of_row, return_index=True)
        order = np.lexsort((np.random.default_rng(seed).random(len(first)), self.truth.numpy()[first]))
        fold_of_group = np.empty(len(first), np.int64)
        fold_of_group[order] = np.arange(len(first)) % count
        fold = torch.from_numpy(fold_of_group[self.group_of_row])
        for number in range(count):
            fitted, held_out = (torch.nonzero(part).squeeze(1) for part in (fold != number, fold == number))
            if len(held_out) > most:
                held_out = held_out[torch.randperm(len(held_out), generator=torch.Generator().manual_seed(seed))[:most]]
            if len(held_out) and len(torch.unique(self.truth[fitted])) > 1:
                yield self.part(fitted), held_out
