"""Pictures that decode and yet are none of a product."""

from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image

from tagger.core.types import FORMATS, Preprocessing
from tagger.images.decode import decode_for
from tagger.images.quality import find_flaw

CLIP = Preprocessing(resize=224, crop=(224, 224), resample=3, rescale=1 / 255, mean=(0, 0, 0), std=(1, 1, 1))


def flaw(image: Image.Image, kind: str = "PNG", **options: object) -> str:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return find_flaw(decode_for(buffer.getvalue(), FORMATS, {"clip": CLIP}).pixels)


def noise(width: int, height: int) -> Image.Image:
    return Image.fromarray(np.random.default_rng(0).integers(0, 256, (height, width, 3), np.uint8))


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP"])
@pytest.mark.parametrize(
    ("size", "expected"),
    [((1, 1), "1 x 1 pixels"), ((600, 9), "600 x 9 pixels"), ((9, 40), "9 x 40 pixels"), ((10, 10), ""), ((28, 28), "")],
)
def test_under_ten_pixels_on_a_side_there_is_nothing_to_see(kind: str, size: tuple[int, int], expected: str):
    assert flaw(noise(*size), kind) == expected


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP"])
@pytest.mark.parametrize("size", [(10, 10), (500, 400), (3000, 2000)])
def test_one_colour_all_over_is_no_picture(kind: str, size: tuple[int, int]):
    assert flaw(Image.new("RGB", size, (250, 240, 230)), kind) == "one colour all over"


@pytest.mark.parametrize("mode", ["RGBA", "LA"])
def test_neither_is_what_is_transparent_whatever_lies_behind(mode: str):
    image = noise(64, 64).convert(mode)
    image.putalpha(0)
    assert flaw(image) == "one colour all over"


@pytest.mark.parametrize("place", [(0, 0), (399, 299), (200, 150), (1, 298)])
def test_a_single_other_pixel_is_content(place: tuple[int, int]):
    image = Image.new("RGB", (400, 300), "white")
    image.putpixel(place, (255, 255, 246))
    assert flaw(image) == ""


def test_a_turned_strip_says_its_upright_size():
    exif = Image.Exif()
    exif[0x0112] = 6
    assert flaw(noise(300, 4), "JPEG", exif=exif) == "4 x 300 pixels"
