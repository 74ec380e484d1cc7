"""Moments of vectors: those of parts add up to those of the whole, and survive a file to the bit."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tagger.core.moments import Moments


@given(st.integers(2, 30), st.integers(0, 30), st.sampled_from([np.float16, np.float32]))
def test_parts_add_up_to_the_whole_also_through_a_file(rows: int, cut: int, kind: type):
    vectors = np.random.default_rng(rows).normal(size=(rows, 5)).astype(kind)
    parts = [Moments.of(vectors[:cut]), Moments.of(vectors[cut:])]
    found = Moments.from_json(parts[0].to_json().encode()) + Moments.from_json(parts[1].to_json())
    exact = vectors.astype(np.float64)
    assert found.rows == rows
    assert found.mean == pytest.approx(exact.mean(0))
    assert found.variance == pytest.approx(exact.var(0, ddof=1))


def test_a_file_keeps_every_bit():
    found = Moments.of(np.array([[0.1, 1e-300], [0.2, 3.0]]))
    again = Moments.from_json(found.to_json())
    assert (again.rows, again.sums.tolist(), again.squares.tolist()) == (2, found.sums.tolist(), found.squares.tolist())


@pytest.mark.parametrize(
    "text",
    [
        "",
        "7",
        "[]",
        "{}",
        '{"rows": 1, "sums": "?", "squares": ""}',
        '{"rows": 1, "sums": "AAAA", "squares": ""}',
        '{"rows": 1, "sums": "AAAAAAAA8D8=", "squares": ""}',
        '{"rows": -1, "sums": "", "squares": ""}',
    ],
)
def test_what_is_no_moments_is_refused(text: str):
    with pytest.raises(ValueError):  # noqa: PT011  # of json, of base64, of numpy, or our own
        Moments.from_json(text)
