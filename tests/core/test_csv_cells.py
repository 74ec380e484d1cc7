"""Cells of CSV: a spreadsheet computes none of them, and each text comes back as it was."""

from __future__ import annotations

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from tagger.core.csv_cells import neutralise, restore

FORMULAS = [
    '=HYPERLINK("http://evil.example","x")',
    "=cmd|' /C calc'!A0",
    "+1+1",
    "-2+3",
    "@SUM(1)",
    "\t=1",
    "\r=1",
    "\n=1",
    "\uff1d1+1",
    "\uff0b1",
    "\uff0d1",
    "\uff20x",
    " =1",
    "'=1",
    "  ' '=1",
]


@pytest.mark.parametrize("text", FORMULAS)
def test_what_a_spreadsheet_might_compute_becomes_text(text: str):
    assert neutralise(text) == f"'{text}"
    assert restore(neutralise(text)) == text


@pytest.mark.parametrize("text", ["", "dress", "t-shirt", "1-2", "it's", "'quoted'", "a=b", "'", " ", "P10=5"])
def test_other_text_stays_as_it_is(text: str):
    assert (neutralise(text), restore(text)) == (text, text)


@given(st.text(alphabet=st.one_of(st.sampled_from("'=+-@\t\r\n \uff1d"), st.characters())))
@example("''=")
def test_every_text_comes_back_and_no_cell_begins_like_a_formula(text: str):
    cell = neutralise(text)
    assert restore(cell) == text
    assert cell[:1] not in set("=+-@\t\r\n\uff1d\uff0b\uff0d\uff20") - {""}
