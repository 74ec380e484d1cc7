"""Formats and sizes of images, from their headers. For images whose decoding is known not to kill the process."""

from __future__ import annotations

import io
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from PIL import Image

from tagger.core.errors import ImageError
from tagger.core.types import ImagePolicy, ImageRef
from tagger.images.prefetch import fetch_ahead
from tagger.images.side_information import strip_side_information
from tagger.images.sources import read_bytes


class Header(NamedTuple):
    """format: Pillow's name. width, height: pixels, as stored. size: bytes, encoded."""

    format: str
    width: int
    height: int
    size: int


def read_headers(refs: Sequence[ImageRef], policy: ImagePolicy) -> Iterator[Header]:
    """Yield the headers of images that can be decoded, leaving out what cannot be read a second time."""
    for found in fetch_ahead(refs, policy):
        if isinstance(found, ImageError):
            continue
        try:
            data = read_bytes(found, policy)
            pixels, _ = strip_side_information(data)
            with Image.open(io.BytesIO(pixels), formats=policy.formats) as image:
                yield Header(str(image.format), *image.size, len(data))
        except (ImageError, OSError):
            continue
