"""How many processes decode."""

from __future__ import annotations

import pytest

from tagger.engines.workers import choose_workers


@pytest.mark.parametrize("device", ["cpu", "cuda", "mps"])
def test_a_short_run_starts_no_workers_and_a_long_one_does(device: str):
    assert choose_workers(128, 32, device) == 0
    assert choose_workers(129, 32, device) >= 1


def test_an_accelerator_gets_at_least_as_many_as_a_cpu():
    assert choose_workers(10_000, 32, "cuda") >= choose_workers(10_000, 32, "cpu")
