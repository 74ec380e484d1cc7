"""Keep a spreadsheet from taking a stranger's text in a CSV cell for a formula, and get the text back unchanged.

OWASP's list (CSV injection): cells that begin with = + - @, tab, CR or LF, also in full-width forms. An apostrophe before them
makes them text. Spaces and apostrophes may stand before the sign, so that every text has one cell and every cell one text.
"""

from __future__ import annotations

import re

SIGNS = "=+\\-@\\t\\r\\n\uff1d\uff0b\uff0d\uff20"  # as in a regular expression's set; review.js has the same
_FORMULA = re.compile(rf"[' ]*[{SIGNS}]")
_NEUTRALISED = re.compile(rf"'[' ]*[{SIGNS}]")


def neutralise(text: str) -> str:
    """Return the cell for a text: itself, or after an apostrophe where a spreadsheet might compute it."""
    return f"'{text}" if _FORMULA.match(text) else text


def restore(cell: str) -> str:
    """Return the text that `neutralise` made this cell of."""
    return cell[1:] if _NEUTRALISED.match(cell) else cell
