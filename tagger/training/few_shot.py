"""Labelled rows -> a few to learn from and others to test with, none nearly the same picture as one on the other side."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.fft import dctn

from tagger.core.errors import ManifestError
from tagger.core.text import one_line
from tagger.core.types import Preprocessing

SIDE, KEPT = 32, 8
# The whole picture, however its sides relate: what perceptual_hashes looks at.
WHOLE = Preprocessing(resize=(SIDE, SIDE), crop=None, resample=3, rescale=1 / 255, mean=(0, 0, 0), std=(1, 1, 1))
GREY = torch.tensor([0.299, 0.587, 0.114])
# Bits of 63 that nearly the same pictures differ in at most. 1,705 photos, every sixth also saved at JPEG quality 30, halved,
# a fifth brighter or cut by 1 % on all sides: 100 % of those are found, and 97 % of those cut by 2 %. Of all 1.45 million
# pairs of different photos, 42 are that near.
NEAR = 8


def perceptual_hashes(pixels: torch.Tensor) -> NDArray[np.bool_]:
    """Return bool (N, 63) of uint8 (N, 3, SIDE, SIDE): which of the lowest frequencies are above their median.

    DCT based hash: Zauner 2010, "Implementation and benchmarking of perceptual image hash functions".
    """
    grey = torch.einsum("nchw,c->nhw", pixels.float(), GREY).numpy()
    lowest = dctn(grey, axes=(1, 2), norm="ortho")[:, :KEPT, :KEPT].reshape(len(grey), -1)[:, 1:]  # without the mean
    above: NDArray[np.bool_] = lowest > np.median(lowest, axis=1, keepdims=True)
    return above


class Pool(NamedTuple):
    """Rows to draw from. truth: int64 (N,). hashes: bool (N, 63)."""

    name: str
    truth: NDArray[np.int64]
    hashes: NDArray[np.bool_]


class Draw(NamedTuple):
    """Rows of the pool to learn from, int64 (K, shots), a line for each label; of the one to test with, int64 (M,)."""

    shots: NDArray[np.int64]
    tests: NDArray[np.int64]

    def with_shots(self, count: int) -> Draw:
        """Return the same draw with the first `count` shots of each label."""
        return Draw(self.shots[:, :count], self.tests)


def draw(learn: Pool, test: Pool, labels: Sequence[str], shots: int, tests: int | None, seed: int) -> Draw:
    """Draw `tests` rows of each label (None: all that there are), then `shots`, no two of which are near each other or a test's.

    The first of the shots are what a draw of fewer gives. Both pools may be the same. ManifestError where there are too few.
    """
    rng = np.random.default_rng(seed)
    drawn = [rng.permutation(np.flatnonzero(test.truth == label))[:tests] for label in range(len(labels))]
    for label, rows in zip(labels, drawn, strict=True):
        if not len(rows) or (tests is not None and len(rows) < tests):
            raise _too_few(test.name, tests or 1, "to test with", len(rows), label)
    taken = list(test.hashes[np.concatenate(drawn)])
    shown = []
    for number, label in enumerate(labels):
        kept: list[int] = []
        for row in rng.permutation(np.flatnonzero(learn.truth == number)).tolist():
            if len(kept) < shots and (np.asarray(taken) != learn.hashes[row]).sum(1).min() > NEAR:
                kept.append(row)
                taken.append(learn.hashes[row])
        if len(kept) < shots:
            raise _too_few(
                learn.name, shots, "to learn from, no two nearly the same picture and none like a test's", len(kept), label
            )
        shown.append(kept)
    return Draw(np.asarray(shown, np.int64), np.concatenate(drawn))


def _too_few(name: str, wanted: int, what: str, found: int, label: str) -> ManifestError:
    return ManifestError(
        f"{name}: expected {wanted} readable rows of each label {what}, found {found} of {one_line(label)}; label more, or lower "
        "--shots or --test"
    )
