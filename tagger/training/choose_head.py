"""Labelled rows -> the head that beats zero-shot on rows it was not fitted on, how surely, or none."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import NamedTuple

import torch
from torch import Tensor

from tagger.core.errors import UsageError
from tagger.evaluation.paired import paired_difference
from tagger.settings.options import ZERO_SHOT
from tagger.tagging.heads import KernelHead, LinearHead
from tagger.training.head_methods import METHODS, Fit, Head
from tagger.training.labelled_embeddings import HELD_OUT_LOGITS, LabelledEmbeddings
from tagger.training.temperature import fit_temperature

AUTO = "auto"
FOLDS = 5
SHARES = tuple(number / 10 for number in range(1, 11))
SURE = 0.95  # probability of a gain from which a head is kept
# What `auto` tries: all methods while there are few rows, those without a kernel of rows by rows up to so many logits, else gda.
KERNEL_ROWS = 2_000
KERNELS = ("proker", "tip-adapter", "tip-adapter-f")


@dataclass(frozen=True, kw_only=True)
class HeadChoice:
    """Say which head won on held-out rows. All figures are shares of 1, and None where rows cannot be split (folds 0).

    head: fitted on all rows and blended with zero-shot; None only from `auto`, where zero-shot wins or nothing can be judged.
    method: of the head, those that are averaged joined by "+", "zero-shot" for None. blend: the head's share beside zero-shot's.
    accuracy: of the held-out rows. gain: by how much the mean of the labels' recalls is above zero-shot's; interval: its 95 %
    interval from a paired bootstrap; probability: that it is above zero. beats_zero_shot: what `--force` is asked for otherwise.
    fit: fits the same methods, averaged and blended alike, on other rows.
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
    fit: Fit | None


def recall_weights(truth: Tensor) -> Tensor:
    """Return float64 (M,), with which the mean of what is right of M rows is the mean of the recalls of the labels that occur."""
    counts = torch.bincount(truth)
    return len(truth) / (int((counts > 0).sum()) * counts[truth].double())


class _HeldOut(NamedTuple):
    """What heads say of M rows that they were not fitted on: logits float32 (methods, M, K), zero-shot's (M, K), truth (M,)."""

    logits: Tensor
    zero_shot: Tensor
    truth: Tensor

    def part(self, rows: Tensor) -> _HeldOut:
        """Return the rows with these indices, or where this is true."""
        return _HeldOut(self.logits[:, rows], self.zero_shot[rows], self.truth[rows])

    def recalled(self, logits: Tensor) -> Tensor:
        """Return float64 (..., M), 0 where logits (..., M, K) are wrong; the mean of all is the mean of the labels' recalls."""
        return recall_weights(self.truth) * (logits.argmax(-1) == self.truth)


class _Recipe(NamedTuple):
    """Say how logits are put together: methods' times scales, summed, and that sum's share beside zero-shot's times its scale."""

    methods: tuple[int, ...]
    scales: tuple[float, ...]
    zero_shot_scale: float
    share: float

    def __call__(self, held_out: _HeldOut) -> Tensor:
        """Return the logits, float32 (M, K)."""
        logits = _sum(scale * held_out.logits[method] for method, scale in zip(self.methods, self.scales, strict=True))
        return torch.lerp(self.zero_shot_scale * held_out.zero_shot, logits, self.share)


def choose_head(rows: LabelledEmbeddings, method: str = AUTO, seed: int = 0, fits: Mapping[str, Fit] = METHODS) -> HeadChoice:
    """Fit the method, or with `auto` the mean of those that win on held-out folds, and judge it there against zero-shot.

    A row counts by 1 / rows of its label: labelled rows need not be spread over the labels as the catalogue is, and those that
    come from a review queue never are. `_recipe` says which methods, and which share stays zero-shot's (WiSE-FT, Wortsman et al.
    2022, section 3). For each fold the others choose all of that, so a row that judges has chosen nothing. Where no label has
    rows in two groups, nothing can be judged: a held-out row's label would be one that no row was fitted on. fits: the methods
    by name; those of METHODS, but for one that needs more than the rows. UsageError for a method that is not there.
    """
    if method not in (AUTO, *fits):
        raise UsageError(f"--method: expected one of {', '.join((AUTO, *fits))}, found {method}")
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
            fit=None if head is None else fits[method],
        )
    methods = _affordable(rows) if method == AUTO else (method,)
    held_out, fold, place = _hold_out(rows, [fits[name] for name in methods], seed)
    judged = torch.empty_like(held_out.zero_shot)
    for number in range(FOLDS):
        judged[fold == number] = _recipe(held_out.part(fold != number), methods)(held_out.part(fold == number))
    own, other = (held_out.recalled(logits).numpy() for logits in (judged, held_out.zero_shot))
    difference = paired_difference(own, other, rows.group_of_row[place.numpy()])
    beats = difference.better >= SURE
    recipe = _recipe(held_out, methods) if beats or method != AUTO else None
    fit = None if recipe is None else partial(_fit, recipe, [fits[name] for name in methods])
    return HeadChoice(
        head=None if fit is None else fit(rows, seed),
        method=ZERO_SHOT if recipe is None else "+".join(methods[number] for number in recipe.methods),
        blend=0.0 if recipe is None else recipe.share,
        accuracy=_accuracy(judged, held_out),
        zero_shot_accuracy=_accuracy(held_out.zero_shot, held_out),
        gain=difference.mean,
        interval=(difference.low, difference.high),
        probability=difference.better,
        rows=len(rows),
        folds=FOLDS,
        beats_zero_shot=beats,
        fit=fit,
    )


def _combine(heads: Sequence[Head], scales: Sequence[float]) -> Head:
    """Return the head whose logits are the sum of scale times these heads' logits; one of them at most has a kernel."""
    weight = _sum(scale * head.weight for head, scale in zip(heads, scales, strict=True))
    bias = _sum(scale * head.bias for head, scale in zip(heads, scales, strict=True))
    for head, scale in zip(heads, scales, strict=True):
        if isinstance(head, KernelHead):
            return KernelHead(weight, bias, head.keys, scale * head.values, head.beta)
    return LinearHead(weight, bias)


def _sum(tensors: Iterable[Tensor]) -> Tensor:
    return torch.stack(list(tensors)).sum(0)


def _affordable(rows: LabelledEmbeddings) -> tuple[str, ...]:
    if len(rows) * rows.classes > HELD_OUT_LOGITS:
        return ("gda",)
    return tuple(name for name in METHODS if len(rows) <= KERNEL_ROWS or name not in KERNELS)


def _hold_out(rows: LabelledEmbeddings, fits: Sequence[Fit], seed: int) -> tuple[_HeldOut, Tensor, Tensor]:
    """Return what each method says of held-out rows, the number of each one's fold and its place among the rows, int64 (M,)."""
    logits, folds, places = [], [], []
    for number, (fitted, held_out) in enumerate(rows.folds(FOLDS, seed)):
        logits.append(torch.stack([fit(fitted, seed)(rows.embeddings[held_out]) for fit in fits]))
        folds.append(torch.full((len(held_out),), number))
        places.append(held_out)
    place = torch.cat(places)
    found = _HeldOut(torch.cat(logits, dim=1), rows.zero_shot(rows.embeddings[place]), rows.truth[place])
    return found, torch.cat(folds), place


def _recipe(held_out: _HeldOut, methods: Sequence[str]) -> _Recipe:
    """Choose the methods to average and zero-shot's share beside them.

    Methods whose mean recall is within a standard error of the best's cannot be told apart (Breiman et al. 1984, section 3.4.3):
    all are averaged, which is steadier than the luck of one, each over the temperature that calibrates it, so that their logits
    are of one size. Of kernels only the best is taken: one head holds the keys of one. Shares within a standard error of the best
    are as good, too, and the middle one of them is taken.
    """
    correct = held_out.recalled(held_out.logits)
    good = _as_good_as_the_best(correct)
    kernels = [number for number in good if methods[number] in KERNELS]
    best_kernel = max(kernels, key=lambda number: float(correct[number].mean()), default=None)
    chosen = tuple(number for number in good if number not in kernels or number == best_kernel)
    scales = tuple(_scale(held_out.logits[number], held_out.truth) / len(chosen) for number in chosen)
    recipe = _Recipe(chosen, scales, _scale(held_out.zero_shot, held_out.truth), 1.0)
    blended = [held_out.recalled(recipe._replace(share=share)(held_out)) for share in SHARES]
    shares = _as_good_as_the_best(torch.stack(blended))
    return recipe._replace(share=SHARES[shares[len(shares) // 2]])


def _as_good_as_the_best(correct: Tensor) -> list[int]:
    """Return the numbers of those within a standard error of the best's mean, from float64 (candidates, M)."""
    means = correct.mean(1)
    best = correct[means.argmax()]
    good: list[int] = torch.nonzero(means >= best.mean() - best.std() / len(best) ** 0.5).squeeze(1).tolist()
    return good


def _accuracy(logits: Tensor, held_out: _HeldOut) -> float:
    return float((logits.argmax(1) == held_out.truth).double().mean())


def _scale(logits: Tensor, truth: Tensor) -> float:
    return 1 / fit_temperature(logits.numpy(), truth.numpy())


def _fit(recipe: _Recipe, fits: Sequence[Fit], rows: LabelledEmbeddings, seed: int) -> Head:
    heads = [fits[number](rows, seed) for number in recipe.methods]
    scales = [recipe.share * scale for scale in recipe.scales]
    return _combine([*heads, rows.zero_shot], [*scales, (1 - recipe.share) * recipe.zero_shot_scale])
