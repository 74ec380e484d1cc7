"""From a manifest's rows to references to their images."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice

import pyarrow as pa

from tagger.catalog.schemas import is_bytes, is_text
from tagger.core.text import trim
from tagger.core.types import ImageRef

FIRST = 100  # values that tell whether a binary column holds text
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f]")


@dataclass(frozen=True)
class ImageRefs:
    """The image references of N rows, made one by one as they are asked for: of most rows the path is enough.

    first_row: the manifest's row that is the first of them. paths, data: as ImageRef has them, N of each; no data where the
    column holds none.
    """

    first_row: int
    paths: Sequence[str | None]
    data: Sequence[bytes | None] | None = None

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, place: int) -> ImageRef:
        return ImageRef(self.first_row + place, self.paths[place], None if self.data is None else self.data[place])

    def __iter__(self) -> Iterator[ImageRef]:
        return map(self.__getitem__, range(len(self)))


def image_refs(column: pa.ChunkedArray, first_row: int, binary_paths: bool) -> ImageRefs:
    """Return the references of a part of an image column.

    first_row: the manifest's row that is the first of them. binary_paths: whether a binary column holds paths (are_texts).
    """
    values = column.to_pylist()
    if is_text(column.type):
        return ImageRefs(first_row, _paths(values))
    if not is_bytes(column.type):
        given = [value or {"path": None, "bytes": None} for value in values]
        return ImageRefs(first_row, _paths([value["path"] for value in given]), [value["bytes"] for value in given])
    texts = [as_text(value) if binary_paths else None for value in values]
    data = [value if text is None else None for value, text in zip(values, texts, strict=True)]
    return ImageRefs(first_row, _paths(texts), data)


def _paths(texts: Sequence[str | None]) -> list[str | None]:
    """Return references as they are; a URL, which no file is called, without white space around it."""
    return [trim(text) if text is not None and "://" in text else text for text in texts]


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
