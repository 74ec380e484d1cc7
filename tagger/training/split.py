"""Labelled rows -> rows to fit on and rows to judge with."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def halve(count: int, seed: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return int64 indices of two halves of `count` rows; the second has one more where the number is odd.

    They are drawn whatever the labels: rows that are independent of each other stay so, which a guarantee rests on.
    """
    shuffled = np.random.default_rng(seed).permutation(count)
    return np.sort(shuffled[: count // 2]), np.sort(shuffled[count // 2 :])


def split(truth: NDArray[np.int64], share: float, seed: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return int64 indices to train with, and to validate with: at least one of each label that has two rows."""
    counts = np.bincount(truth)
    shuffled = np.random.default_rng(seed).permutation(len(truth))
    validation = [
        shuffled[truth[shuffled] == label][: max(1, round(share * count)) if share and count > 1 else 0]
        for label, count in enumerate(counts)
    ]
    held_out = np.sort(np.concatenate([shuffled[:0], *validation]))
    return np.setdiff1d(np.arange(len(truth)), held_out), held_out


def halve_groups(groups: NDArray[np.int64], truth: NDArray[np.int64], seed: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return int64 indices of two halves with about as many groups of each label, no group in both.

    groups: int64 (N,), equal for rows of one product or of nearly the same picture. truth: int64 (N,); a group has the label of
    its first row.
    """
    _, first, of_row = np.unique(groups, return_index=True, return_inverse=True)
    shuffled = np.random.default_rng(seed).permutation(len(first))
    by_label = shuffled[np.argsort(truth[first[shuffled]], kind="stable")]
    in_first = np.zeros(len(first), np.bool_)
    in_first[by_label[::2]] = True
    return np.flatnonzero(in_first[of_row]), np.flatnonzero(~in_first[of_row])


def split_groups(
    groups: NDArray[np.int64], truth: NDArray[np.int64], share: float, seed: int
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return int64 indices to train with, and to validate with: about this share of the groups of each label, none torn apart.

    groups, truth: as of halve_groups. A label of a single group has no row to validate with.
    """
    _, first, of_row = np.unique(groups, return_index=True, return_inverse=True)
    _, held_out = split(truth[first], share, seed)
    chosen = np.zeros(len(first), np.bool_)
    chosen[held_out] = True
    return np.flatnonzero(~chosen[of_row]), np.flatnonzero(chosen[of_row])
