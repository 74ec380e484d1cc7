"""Make text of other people fit for a log, a terminal, a report or a comparison: one printable line, no secrets of URLs."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from itertools import count, islice
from typing import Any
from unicodedata import category, normalize

MAX_LINE = 2000  # characters that are shown of a line; no message of ours is as long

# Not printable by Unicode, and yet part of writing: wide and unbreakable spaces, joiners of Persian, Hindi and emoji.
_KEPT = "\u00a0\u3000\u200c\u200d"
_URL = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*://)([^\s/?#]*)([^\s?#]*)(\S*)")
_PUNCTUATION = ";:,.'\")]"


def printable(text: str) -> str:
    """Write line ends, terminal codes, bidi overrides and the like as escapes; letters of all scripts stay."""
    if text.isprintable():
        return text
    return "".join(
        character if character.isprintable() or character in _KEPT else character.encode("unicode_escape").decode()
        for character in text
    )


def without_secrets(text: str) -> str:
    """Leave user names, passwords, queries and fragments out of the text's URLs."""
    return _URL.sub(_bare, text) if "://" in text else text


def one_line(text: str) -> str:
    """Return the text as it may be logged, printed or written as a reason: printable, without secrets, at most MAX_LINE long."""
    # In this order: a line end within a query is no end of it.
    shown = without_secrets(printable(text))
    return shown if len(shown) <= MAX_LINE else f"{shown[:MAX_LINE]} … ({len(shown):,} characters)"


def trim(text: str) -> str:
    """Cut white space and line ends, also those that are no ASCII, and marks of a text's byte order off both ends."""
    return text.strip().strip("\ufeff\u200b").strip()


def first_line(error: BaseException) -> str:
    """Return the first line of what a library says of an error, without its full stop; the error's name if it says nothing."""
    lines = str(error).strip().splitlines() or [type(error).__name__]
    return lines[0].rstrip(".")


def quoted(text: str) -> str:
    """Return the text as `one_line` does, in quotes, which show the space at its ends."""
    return f'"{one_line(text)}"'


def listed(counts: Mapping[str, int], shown: int = 10) -> str:
    """Return the first values with their numbers: `2 "gown", 1 "cape" and 3 more values`."""
    text = ", ".join(f"{number:,} {quoted(value)}" for value, number in islice(counts.items(), shown))
    return text + (f" and {len(counts) - shown:,} more values" if len(counts) > shown else "")


def folded(text: str) -> str:
    """Return what two texts share that differ only in case, in space or in Unicode form.

    As toNFKC_Casefold of the Unicode standard (3.13) does, and with space cut at the ends and one space in the place of several:
    an unbreakable space and a line end are space, what cannot be seen (a byte order mark, a joiner) is nothing.
    """
    for _ in range(2):  # a second time for the few letters that the composition changes back
        text = normalize("NFKC", normalize("NFD", text).casefold())
    return " ".join("".join(letter for letter in text if category(letter) != "Cf").split())


def to_json(value: Any, indent: int | None = 2) -> str:
    """Return JSON for files and terminals: texts and keys without secrets, all that is not printable as escapes of JSON.

    Keys that differ only in their secrets stay apart: the second one ends in " (2)", and so on.
    """
    text = json.dumps(_without_secrets(value), indent=indent, ensure_ascii=False)
    return "\n".join(
        line if line.isprintable() else "".join(c if c.isprintable() or c in _KEPT else json.dumps(c)[1:-1] for c in line)
        for line in text.split("\n")
    )


def _without_secrets(value: Any) -> Any:
    if isinstance(value, str):
        return without_secrets(value)
    if isinstance(value, Mapping):
        shown: dict[str, Any] = {}
        for key, item in value.items():
            name = free = without_secrets(key)
            numbers = count(2)
            while free in shown:
                free = f"{name} ({next(numbers)})"
            shown[free] = _without_secrets(item)
        return shown
    if isinstance(value, Sequence):
        return [_without_secrets(item) for item in value]
    return value


def _bare(match: re.Match[str]) -> str:
    scheme, authority, path, rest = match.groups()
    host = authority.rpartition("@")[2]
    if not rest:
        return f"{scheme}{host}{path}"
    # A URL may end a part of a sentence, whose punctuation then follows.
    return f"{scheme}{host}{path}{rest[0]}…{rest[len(rest.rstrip(_PUNCTUATION)) :]}"
