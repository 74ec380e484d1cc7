"""Labelled rows -> rows that a model learns from, and enough others to judge it by."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from tagger.core.errors import ManifestError
from tagger.settings.attributes import Attribute
from tagger.training.split import split_groups

ENOUGH = 10  # rows, to tell better from worse


def hold_out(
    manifest: str, attribute: Attribute, groups: NDArray[np.int64], truth: NDArray[np.int64], share: float, seed: int
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return int64 indices of rows to learn from and of others to judge with, as split_groups does; ManifestError for too few."""
    rows, held_out = split_groups(groups, truth, share, seed)
    if len(held_out) < ENOUGH or len(attribute.labels) < 2:
        raise ManifestError(
            f"{manifest}: expected two labels or more, and {ENOUGH} labelled rows or more to choose by, found "
            f"{len(attribute.labels)} and {len(held_out)} of {len(truth)}; label more, or raise --validation"
        )
    return rows, held_out
