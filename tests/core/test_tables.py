"""Tables: aligned, whole, and plain wherever they go."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tagger.core.tables import plain_table
from tagger.core.text import one_line


def test_columns_are_aligned_also_with_wide_letters():
    assert plain_table(("", "rows", "note"), [("hat", "7", "x"), ("漢字 [b]bag[/b] :smile:", "10,000", "")], indent=2) == (
        "                             rows  note\n  hat                           7     x\n  漢字 [b]bag[/b] :smile:  10,000"
    )


@pytest.mark.parametrize("variable", ["FORCE_COLOR", "TTY_COMPATIBLE", "NO_COLOR"])
def test_the_environment_changes_nothing(variable: str, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv(variable, "1")
    monkeypatch.setenv("COLUMNS", "10")
    cell = "a long cell, " * 100 + "whole"
    assert plain_table(("head", "more"), [(cell, "end")], left=2).split("\n")[1] == f"{cell}  end"
    assert plain_table(("head",), []) == "head"


@given(st.lists(st.tuples(st.text(max_size=30), st.integers()), max_size=5))
def test_every_row_is_one_line_with_its_cells_whole(rows: list[tuple[str, int]]):
    head, *lines = plain_table(("name", "count"), [(name, str(count)) for name, count in rows]).split("\n")
    assert head.split() == ["name", "count"]
    assert len(lines) == len(rows)
    for line, (name, count) in zip(lines, rows, strict=True):
        assert line.startswith(one_line(name).rstrip())
        assert line.endswith(f" {count}")
