"""A run's time from one image's: the slower stage decides, and on a CPU both share the cores."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tagger.inference.estimate import estimate_seconds

SECONDS = st.floats(0, 10)


def test_on_an_accelerator_the_slower_stage_decides():
    shared = {"workers": 4, "cores": 8, "on_cpu": False, "extra": 1.0}
    assert estimate_seconds(100, encode=0.1, decode=0.2, **shared) == (pytest.approx(11), "encoder")
    assert estimate_seconds(100, encode=0.1, decode=0.8, **shared) == (pytest.approx(21), "decoder")


def test_on_a_cpu_decoding_takes_the_encoder_s_cores():
    shared = {"workers": 1, "cores": 4, "on_cpu": True, "extra": 0.0}
    assert estimate_seconds(100, encode=0.1, decode=0.04, **shared) == (pytest.approx(11), "encoder")
    assert estimate_seconds(100, encode=0.01, decode=0.04, **shared) == (pytest.approx(4), "decoder")


@given(rows=st.integers(0, 1000), encode=SECONDS, decode=SECONDS, workers=st.integers(0, 8), cores=st.integers(1, 8))
def test_no_run_is_faster_than_its_parts(rows: int, encode: float, decode: float, workers: int, cores: int):
    seconds, _ = estimate_seconds(rows, encode=encode, decode=decode, workers=workers, cores=cores, on_cpu=True, extra=0)
    assert seconds >= rows * encode
    assert seconds >= rows * decode / cores * 0.999
    assert seconds <= rows * (encode + decode) * 1.001
