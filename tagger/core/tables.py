"""Lay out tables as plain text: for a terminal, a pipe or a file alike, without colours or borders."""

from __future__ import annotations

import io
from collections.abc import Iterable, Sequence

from rich.console import Console
from rich.table import Table
from rich.text import Text

from tagger.core.text import one_line

WIDTH = 1_000_000  # more than any line has, so that nothing is cut or wrapped


def plain_table(header: Sequence[str], rows: Iterable[Sequence[str]], *, left: int = 1, indent: int = 0) -> str:
    """Return a table of aligned columns: `left` of them to the left, the others to the right.

    header, rows: texts, also of a catalogue; each is shown on one line, whole, and without the secrets of URLs. indent: spaces
    before every line.
    """
    table = Table(box=None, padding=(0, 2, 0, 0), pad_edge=False)
    for number, name in enumerate(header):
        table.add_column(Text(one_line(name)), justify="left" if number < left else "right", no_wrap=True)
    for row in rows:
        table.add_row(*(Text(one_line(cell)) for cell in row))
    file = io.StringIO()
    Console(file=file, width=WIDTH, color_system=None, legacy_windows=False).print(table, crop=False)
    return "\n".join(f"{' ' * indent}{line}".rstrip() for line in file.getvalue().splitlines())
