"""Labelled rows -> the head that beats zero-shot on rows it was not fitted on, how surely, or none."""

from __future__ import annotations

from dataclasses import dataclass

from tagger.training.head_methods import Head
from tagger.training.labelled_embeddings import LabelledEmbeddings


@dataclass(frozen=True, kw_only=True)
class HeadChoice:
    """Say which head won on held-out rows. Accuracies are shares of 1; the difference is accuracy - zero_shot_accuracy.

    head: fitted on all rows and blended with zero-shot; None only from `auto`, where zero-shot wins or nothing can be judged.
    method: of the head, "zero-shot" for None. blend: the head's share beside zero-shot's. interval: of the difference, 95 %,
    from a paired bootstrap; probability: that the difference is above zero. None where rows cannot be split (folds 0).
    beats_zero_shot: what `--force` is asked for otherwise.
    """

    head: Head | None
    method: str
    blend: float
    accuracy: float | None
    zero_shot_accuracy: float | None
    interval: tuple[float, float] | None
    probability: float | None
    rows: int
    folds: int
    beats_zero_shot: bool


def choose_head(rows: LabelledEmbeddings, method: str = "auto", seed: int = 0) -> HeadChoice:
    """Fit the method, or with `auto` the one that wins on held-out folds, and judge it there against zero-shot."""
    raise NotImplementedError
