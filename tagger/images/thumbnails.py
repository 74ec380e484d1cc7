"""Small pictures for pages: decoded by processes that may die, encoded anew, so that no byte of a stranger's file goes on."""

from __future__ import annotations

import base64
import io
from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import chain, groupby
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

from tagger.core.errors import ImageError
from tagger.core.types import ImagePolicy, ImageRef, Preprocessing
from tagger.images.prefetch import fetch_ahead
from tagger.images.reading import Reading

if TYPE_CHECKING:  # where there is nothing to decode, nobody waits for torch
    from torch import Tensor

SIDE = 144  # pixels of a thumbnail's longer side by default
QUALITY, METHOD = 70, 2  # of WebP: a thumbnail of SIDE takes 2 to 4 KB, and half a millisecond


@dataclass(frozen=True, slots=True)
class Thumbnail:
    """A picture of width x height pixels, encoded as WebP."""

    data: bytes
    width: int
    height: int

    @property
    def uri(self) -> str:
        """Return the picture as a `data:` URI."""
        return f"data:image/webp;base64,{base64.b64encode(self.data).decode()}"

    def decode(self) -> Image.Image:
        """Return the pixels, RGB."""
        return Image.open(io.BytesIO(self.data)).convert("RGB")


def read_thumbnails(
    refs: Iterable[ImageRef], policy: ImagePolicy, *, side: int = SIDE, workers: int
) -> Iterator[tuple[int, Thumbnail | ImageError]]:
    """Yield, in order, each reference's row with its picture, or why there is none, as tagging it would say.

    side: pixels of the longer side. workers: processes that decode; with 0 this one does, and an image may end it. Remote
    images are fetched within the policy, some ahead.
    """
    source = iter(refs)
    if (first := next(source, None)) is None:
        return
    from tagger.images.resilient_loader import load_images

    errors: dict[int, ImageError] = {}
    rows = deque[int]()  # on their way to a decoder, or coming back from it

    def batches() -> Iterator[list[ImageRef]]:
        for ref, found in _fetch(chain([first], source), policy):
            rows.append(ref.row)
            if isinstance(found, ImageError):
                errors[ref.row] = found
            yield [] if isinstance(found, ImageError) else [found]  # one by one: each has a shape of its own

    wanted = Preprocessing(
        resize=side, crop=None, resample=Image.Resampling.BICUBIC, rescale=1, mean=(0.0, 0.0, 0.0), std=(1.0, 1.0, 1.0)
    )
    reading = Reading(policy=policy, preprocessings={"thumbnail": wanted}, workers=workers)
    for batch in load_images(batches(), reading):
        row = rows.popleft()
        error = errors.pop(row) if row in errors else batch.errors.get(row)
        yield row, error or encode(batch.pixels["thumbnail"][0], side)


def _fetch(refs: Iterable[ImageRef], policy: ImagePolicy) -> Iterator[tuple[ImageRef, ImageRef | ImageError]]:
    """Yield each reference with what it is after fetching; embedded images, which may be large, one by one as they come."""
    for embedded, part in groupby(refs, lambda ref: ref.data is not None):
        if embedded:
            yield from ((ref, ref) for ref in part)
        else:
            known = list(part)
            yield from zip(known, fetch_ahead(known, policy), strict=True)


def encode(pixels: Tensor, side: int) -> Thumbnail:
    """Encode uint8 (3, H, W) at no more than `side` pixels a side."""
    image = Image.fromarray(np.ascontiguousarray(pixels.permute(1, 2, 0).numpy()))
    image.thumbnail((side, side))
    buffer = io.BytesIO()
    image.save(buffer, "WEBP", quality=QUALITY, method=METHOD)
    return Thumbnail(buffer.getvalue(), image.width, image.height)
