"""The short form of races.py: what changes under a run is neither lost nor mixed."""

from __future__ import annotations

from test_crash import counts


def test_what_changes_under_a_run_is_neither_lost_nor_mixed():
    found = counts("races.py", "--races", 4, "--seed", 3)
    assert found["races"] == 4
    assert found["changed before the run had ended"] > 0
