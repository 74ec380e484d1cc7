"""Groups of images that are nearly the same picture."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from tagger.evaluation.duplicates import near_duplicates


def _sketches(count: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal((count, 32)).astype(np.float16)


def test_copies_and_near_copies_are_a_group_and_others_stand_alone() -> None:
    sketches = _sketches(50)
    sketches[[3, 20]] = sketches[0]
    sketches[7] = sketches[5] + np.float16(0.02)
    groups = near_duplicates(sketches)
    assert groups[0] == groups[3] == groups[20] == 0
    assert groups[5] == groups[7]
    assert len(np.unique(groups)) == 50 - 3


def test_a_row_without_an_embedding_is_in_no_group() -> None:
    sketches = _sketches(4)
    sketches[1] = np.nan
    assert near_duplicates(sketches).tolist() == [0, -1, 1, 2]


def test_one_placeholder_everywhere_is_one_group() -> None:
    assert near_duplicates(np.repeat(_sketches(1), 1000, axis=0)).tolist() == [0] * 1000


def test_nothing_has_no_groups() -> None:
    assert near_duplicates(_sketches(0)).tolist() == []
    assert near_duplicates(np.full((2, 32), np.nan, np.float16)).tolist() == [-1, -1]


def test_nearly_all_near_pairs_are_found() -> None:
    sketches = _sketches(2000)
    copies = (sketches + np.random.default_rng(1).normal(0, 0.02, sketches.shape)).astype(np.float16)
    groups = near_duplicates(np.concatenate([sketches, copies]))
    assert np.mean(groups[:2000] == groups[2000:]) > 0.99
    assert len(np.unique(groups[:2000])) == 2000


@given(st.integers(0, 1000), st.integers(1, 40))
def test_the_groups_do_not_depend_on_the_order_of_the_rows(seed: int, count: int) -> None:
    sketches = _sketches(count, seed)[np.random.default_rng(seed).integers(0, count, count)]
    order = np.random.default_rng(seed + 1).permutation(count)
    groups, moved = near_duplicates(sketches), near_duplicates(sketches[order])
    assert np.array_equal(groups[order][:, None] == groups[order], moved[:, None] == moved)
