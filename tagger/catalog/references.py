"""From a manifest's rows to references to their images."""

from __future__ import annotations

import re
from collections.abc import Iterable
from itertools import islice

import pyarrow as pa

from tagger.catalog.schemas import is_bytes, is_text
from tagger.core.text import trim
from tagger.core.types import ImageRef

FIRST = 100  # values that tell whether a binary column holds text
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f]")


def image_refs(column: pa.ChunkedArray, first_row: int, binary_paths: bool) -> list[ImageRef]:
    """Return the references of a part of an image column.

    first_row: the manifest's row that is the first of them. binary_paths: whether a binary column holds paths (are_texts).
    """
    rows = zip(range(first_row, first_row + len(column)), column.to_pylist(), strict=True)
    if is_text(column.type):
        return [ImageRef(row, path=_path(value)) for row, value in rows]
    if not is_bytes(column.type):
        return [ImageRef(row) if value is None else ImageRef(row, _path(value["path"]), value["bytes"]) for row, value in rows]
    if not binary_paths:
        return [ImageRef(row, data=value) for row, value in rows]
    texts = ((row, value, as_text(value)) for row, value in rows)
    return [ImageRef(row, data=value) if text is None else ImageRef(row, path=_path(text)) for row, value, text in texts]


def _path(text: str | None) -> str | None:
    """Return a reference as it is; a URL, which no file is called, without white space around it."""
    return trim(text) if text is not None and "://" in text else text


def are_texts(parts: Iterable[pa.Array]) -> bool:
    """Tell whether a binary column holds paths and URLs that were written without a word that they are text.

    Its FIRST values decide for the whole column: were each value taken for what it looks like, whoever delivers an image to be
    embedded could deliver the path of another one.
    """
    for part in parts:
        if first := list(islice(filter(None, (value.as_py() for value in part)), FIRST)):
            return all(as_text(value) is not None for value in first)
    return False


def as_text(value: bytes | None) -> str | None:
    """Return the text that bytes are: UTF-8 with control characters at its ends at most. An image has others in its header."""
    try:
        text = None if value is None else value.decode()
    except UnicodeDecodeError:
        return None
    return text if text is not None and not _CONTROL.search(trim(text)) else None
