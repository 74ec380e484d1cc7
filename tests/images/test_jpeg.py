"""A JPEG that lacks its end marker, and nothing else, is whole."""

from __future__ import annotations

import io
import re
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from tagger.core.errors import ImageError
from tagger.core.types import FORMATS, Preprocessing
from tagger.images.decode import decode, read_pixels
from tagger.images.jpeg import complete

KINDS: dict[str, dict[str, Any]] = {
    "sequential": {},
    "optimized": {"optimize": True},
    "progressive": {"progressive": True},
    "restarts": {"restart_marker_blocks": 3},
    "full colour": {"subsampling": 0},
}
CLIP = Preprocessing(resize=32, crop=(32, 32), resample=3, rescale=1 / 255, mean=(0, 0, 0), std=(1, 1, 1))


def jpeg(kind: str, mode: str = "RGB", quality: int = 90, image: Image.Image | None = None) -> bytes:
    if image is None:
        y, x = np.mgrid[0:150, 0:200]
        noise = np.random.default_rng(0).integers(0, 40, (150, 200))
        image = Image.fromarray(np.stack([x + noise, y + noise, (x * y) // 200 + noise], -1).astype(np.uint8))
    buffer = io.BytesIO()
    image.convert(mode).save(buffer, "JPEG", quality=quality, **KINDS[kind])
    return buffer.getvalue()


def pixels(data: bytes) -> np.ndarray[Any, np.dtype[np.uint8]]:
    return np.asarray(decode(data))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("mode", ["RGB", "L", "CMYK"])
@pytest.mark.parametrize("behind", [b"", b"\xff", b"\xff\xff", bytes(500)], ids=["none", "half", "filled", "zeros"])
def test_a_jpeg_without_its_end_marker_is_whole(kind: str, mode: str, behind: bytes):
    whole = jpeg(kind, mode)
    assert np.array_equal(pixels(whole[:-2] + behind), pixels(whole))


@pytest.mark.parametrize("kind", KINDS)
def test_it_is_tagged_as_the_whole_is(kind: str):
    whole = jpeg(kind)
    with_end, without = (read_pixels(data, FORMATS, {"clip": CLIP})["clip"] for data in (whole, whole[:-2]))
    assert np.array_equal(with_end, without)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("missing", [12, 40, 400])
def test_a_jpeg_whose_data_ends_early_is_truncated(kind: str, missing: int):
    with pytest.raises(ImageError, match="^truncated: "):
        decode(jpeg(kind)[:-missing])


def test_a_progressive_jpeg_without_its_last_scans_is_truncated():
    whole = jpeg("progressive")
    for scan in list(re.finditer(b"\xff\xda", whole))[1:]:
        with pytest.raises(ImageError, match="^truncated: "):
            decode(whole[: scan.start()])


def test_a_jpeg_that_ends_at_a_restart_marker_is_truncated():
    whole = jpeg("restarts")
    for marker in list(re.finditer(b"\xff[\xd0-\xd7]", whole))[-20:]:
        for end in marker.span():
            with pytest.raises(ImageError, match="^truncated: "):
                decode(whole[:end])


@given(
    kind=st.sampled_from(sorted(KINDS)),
    mode=st.sampled_from(["RGB", "L", "CMYK"]),
    quality=st.integers(1, 100),
    size=st.tuples(st.integers(1, 40), st.integers(1, 40)),
    colours=st.integers(1, 255),
    missing=st.integers(1, 60),
)
@settings(max_examples=300, deadline=None)
def test_what_is_completed_has_the_pixels_of_the_whole(
    kind: str, mode: str, quality: int, size: tuple[int, int], colours: int, missing: int
):
    noise = np.random.default_rng(colours).integers(0, colours, (*size, 3), np.uint8)
    whole = jpeg(kind, mode, quality, Image.fromarray(noise))
    cut = whole[:-missing]
    completed = complete(cut)
    assert completed is not cut or missing > 2
    if completed is not cut:
        assert np.array_equal(pixels(bytes(completed)), pixels(whole))


@pytest.mark.parametrize(
    "data", [b"", b"\xff\xd8\xff", b"\xff\xd8\xff\xc0\0\x02\xff\xda\0\x02", b"\xff\xd8\xff\xda\0\x03\xff", b"RIFF"]
)
def test_what_is_no_jpeg_is_left_alone(data: bytes):
    assert complete(data) is data


def test_a_jpeg_without_its_end_may_be_too_large(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 20_000)
    with pytest.raises(ImageError, match="^too-large: "):
        decode(jpeg("sequential")[:-2])
