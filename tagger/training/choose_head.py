"""Labelled rows -> the head that beats zero-shot on rows it was not fitted on, how surely, or none."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from tagger.core.errors import UsageError
from tagger.tagging.heads import KernelHead, LinearHead
from tagger.training.head_methods import METHODS, Fit, Head
from tagger.training.labelled_embeddings import LabelledEmbeddings

AUTO, ZERO_SHOT = "auto", "zero-shot"
FOLDS = 5
BLENDS = tuple(number / 10 for number in range(1, 11))
RESAMPLES = 2_000
SURE = 0.95  # probability of a gain from which a head is kept
# What `auto` tries: all methods while there are few rows, those without a kernel of rows by rows up to so many logits, else gda.
KERNEL_ROWS, LOGITS = 500, 20_000_000
KERNELS = ("proker", "tip-adapter", "tip-adapter-f")


@dataclass(frozen=True, kw_only=True)
class HeadChoice:
    """Say which head won on held-out rows. All figures are shares of 1, and None where rows cannot be split (folds 0).

    head: fitted on all rows and blended with zero-shot; None only from `auto`, where zero-shot wins or nothing can be judged.
    method: of the head, "zero-shot" for None. blend: the head's share beside zero-shot's. accuracy: of the held-out rows. gain:
    by how much the mean of the labels' recalls is above zero-shot's; interval: its 95 % interval from a paired bootstrap;
    probability: that it is above zero. beats_zero_shot: what `--force` is asked for otherwise.
    """

    head: Head | None
    method: str
    blend: float
    accuracy: float | None
    zero_shot_accuracy: float | None
    gain: float | None
    interval: tuple[float, float] | None
    probability: float | None
    rows: int
    folds: int
    beats_zero_shot: bool


def choose_head(rows: LabelledEmbeddings, method: str = AUTO, seed: int = 0, fits: Mapping[str, Fit] = METHODS) -> HeadChoice:
    """Fit the method, or with `auto` the one that wins on held-out folds, and judge it there against zero-shot.

    A row counts by 1 / rows of its label, so that a rare label counts as much as a frequent one: labelled rows need not be
    spread over the labels as the catalogue is. The head's share beside zero-shot's (WiSE-FT, Wortsman et al. 2022, section 3) is
    chosen on held-out rows as well. For each fold the others choose method and share, so the rows that judge have chosen nothing.
    Where no label has rows in two groups, nothing can be judged: a held-out row's label would be one that no row was fitted on.
    fits: the methods by name; those of METHODS, but for one that needs more than the rows. UsageError for one that is not there.
    """
    if method not in (AUTO, *fits):
        raise UsageError(f"--method: expected one of {', '.join((AUTO, *fits))}, found {method}")
    methods = _affordable(rows) if method == AUTO else (method,)
    if not rows.can_be_split:
        head = None if method == AUTO else fits[method](rows, seed)
        return HeadChoice(
            head=head,
            method=ZERO_SHOT if head is None else method,
            blend=0.0 if head is None else 1.0,
            accuracy=None,
            zero_shot_accuracy=None,
            gain=None,
            interval=None,
            probability=None,
            rows=len(rows),
            folds=0,
            beats_zero_shot=False,
        )
    fold, zero_shot, correct = _held_out(rows, [fits[name] for name in methods], seed)
    weights = (1 / rows.counts[rows.truth]).double().numpy() / int((rows.counts > 0).sum())
    judged = np.empty(len(rows), np.bool_)
    for number in range(FOLDS):
        place = _best(correct[:, :, fold != number], weights[fold != number])
        judged[fold == number] = correct[place][fold == number]
    name, share = _best(correct, weights)
    difference = weights * (judged.astype(np.int64) - zero_shot)
    interval, probability = _bootstrap(difference, rows, seed)
    kept = method != AUTO or probability >= SURE
    return HeadChoice(
        head=blend(fits[methods[name]](rows, seed), rows.zero_shot, BLENDS[share]) if kept else None,
        method=methods[name] if kept else ZERO_SHOT,
        blend=BLENDS[share] if kept else 0.0,
        accuracy=float(judged.mean()),
        zero_shot_accuracy=float(zero_shot.mean()),
        gain=float(difference.sum()),
        interval=interval,
        probability=probability,
        rows=len(rows),
        folds=FOLDS,
        beats_zero_shot=probability >= SURE,
    )


def blend(head: Head, zero_shot: LinearHead, share: float) -> Head:
    """Interpolate between the weights of zero-shot (share 0) and of the head (share 1); logits lie between theirs as well."""
    weight = torch.lerp(zero_shot.weight, head.weight, share)
    bias = torch.lerp(zero_shot.bias, head.bias, share)
    if isinstance(head, KernelHead):
        return KernelHead(weight, bias, head.keys, share * head.values, head.beta)
    return LinearHead(weight, bias)


def _affordable(rows: LabelledEmbeddings) -> Sequence[str]:
    if len(rows) <= KERNEL_ROWS:
        return tuple(METHODS)
    if len(rows) * rows.classes <= LOGITS:
        return tuple(name for name in METHODS if name not in KERNELS)
    return ("gda",)


def _held_out(
    rows: LabelledEmbeddings, fits: Sequence[Fit], seed: int
) -> tuple[NDArray[np.int64], NDArray[np.bool_], NDArray[np.bool_]]:
    """Return each row's fold, int64 (N,), and whether it is right when held out: zero-shot (N,), heads (methods, blends, N).

    Rows that no fold can hold out count as zero-shot has them.
    """
    fold = np.full(len(rows), -1)
    zero_shot = (rows.zero_shot(rows.embeddings).argmax(1) == rows.truth).numpy()
    correct = np.broadcast_to(zero_shot, (len(fits), len(BLENDS), len(rows))).copy()
    for number, (fitted, held_out) in enumerate(rows.folds(FOLDS, seed)):
        embeddings, truth = rows.embeddings[held_out], rows.truth[held_out]
        fold[held_out] = number
        base = rows.zero_shot(embeddings)
        for place, fit in enumerate(fits):
            logits = fit(fitted, seed)(embeddings)
            for step, share in enumerate(BLENDS):
                correct[place, step, held_out] = (torch.lerp(base, logits, share).argmax(1) == truth).numpy()
    fold[fold < 0] = 0
    return fold, zero_shot, correct


def _best(correct: NDArray[np.bool_], weights: NDArray[np.float64]) -> tuple[int, int]:
    """Return the numbers of the best method and of its share, from bool (methods, blends, N) and float64 (N,).

    Shares within a standard error of the best are as good, and the middle one of them is taken: which is best is chance.
    """
    scores = correct @ weights
    method = int(scores.max(1).argmax())
    best = correct[method, scores[method].argmax()]
    error = float(np.sqrt(((weights * (best - (best @ weights) / weights.sum())) ** 2).sum()))
    good = np.flatnonzero(scores[method] >= scores[method].max() - error)
    return method, int(good[len(good) // 2])


def _bootstrap(difference: NDArray[np.float64], rows: LabelledEmbeddings, seed: int) -> tuple[tuple[float, float], float]:
    """Return the 95 % interval of the sum of the rows' differences, and the share of resamples in which it is above zero.

    Groups are drawn, not rows: those of a product are right or wrong together. Half of the resamples in which it is zero count.
    """
    sums = np.bincount(rows.group_of_row, weights=difference)
    rng = np.random.default_rng(seed)
    drawn = np.asarray([sums[rng.integers(len(sums), size=len(sums))].sum() for _ in range(RESAMPLES)])
    low, high = np.quantile(drawn, (0.025, 0.975))
    return (float(low), float(high)), float(np.mean(drawn > 0) + np.mean(drawn == 0) / 2)
