"""Halves of rows that share no product."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from tagger.training.split import halve_groups


@given(st.lists(st.tuples(st.integers(0, 12), st.integers(0, 2)), min_size=2, max_size=60), st.integers(0, 5))
def test_no_group_is_in_both_halves(rows: list[tuple[int, int]], seed: int):
    groups, truth = (np.asarray(column) for column in zip(*rows, strict=True))
    first, second = halve_groups(groups, truth, seed)
    assert sorted([*first, *second]) == list(range(len(rows)))
    assert not set(groups[first]) & set(groups[second])
    assert 0 <= len(set(groups[first])) - len(set(groups[second])) <= 1


def test_each_label_is_in_both_halves():
    truth = np.repeat([0, 1, 2], [6, 20, 34])
    first, second = halve_groups(np.arange(60), truth, 3)
    assert np.bincount(truth[first]).tolist() == np.bincount(truth[second]).tolist() == [3, 10, 17]
    assert first.tolist() != halve_groups(np.arange(60), truth, 4)[0].tolist()
