"""Pictures that decode and yet are none of a product."""

from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image, ImageFilter

from tagger.core.types import FORMATS, Preprocessing, QualityLimits
from tagger.images.decode import decode_for, resize
from tagger.images.quality import find_flaws, measure

CLIP = Preprocessing(resize=224, crop=(224, 224), resample=3, rescale=1 / 255, mean=(0, 0, 0), std=(1, 1, 1))


STRICT = QualityLimits(min_side=200, min_aspect_ratio=0.35, min_brightness=0.32, max_brightness=0.9, min_sharpness=30)


def measured(image: Image.Image, kind: str = "PNG", **options: object) -> np.ndarray:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    picture = decode_for(buffer.getvalue(), FORMATS, {"clip": CLIP})
    return measure(picture, resize(picture, {"clip": CLIP})["clip"])


def flaw(image: Image.Image, kind: str = "PNG", limits: QualityLimits = QualityLimits(), **options: object) -> str:  # noqa: B008
    return find_flaws(measured(image, kind, **options)[None], limits).get(0, "")


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


def test_sides_are_those_of_the_whole_picture_however_small_a_jpeg_is_decoded():
    assert measured(noise(3000, 2000), "JPEG")[:2].tolist() == [3000, 2000]
    assert flaw(noise(3000, 190), "JPEG", STRICT) == "3000 x 190 pixels"
    assert flaw(noise(3000, 1000), "JPEG", STRICT) == "extreme shape, 3000 x 1000 pixels"


def test_what_is_dark_light_or_blurred_goes_to_review_only_where_a_limit_is_set():
    soft = noise(400, 400).filter(ImageFilter.GaussianBlur(8))
    for image, expected in (
        (noise(400, 400).point(lambda level: level // 8), "too dark, brightness 0.12"),
        (noise(400, 400).point(lambda level: 235 + level // 13), "washed out, brightness 0.93"),
        (soft, "blurred, sharpness 2"),
        (noise(400, 400), ""),
    ):
        assert flaw(image, limits=STRICT) == expected
        assert flaw(image) == ""


def test_brightness_and_sharpness_of_stripes():
    # Columns of black and white, two pixels wide: the Laplacian is 255 beside each edge, up and down in turn.
    columns = np.tile(np.repeat(np.uint8([0, 255]), 2), 56)
    stripes = Image.fromarray(np.broadcast_to(columns[:, None], (224, 224, 3)).copy())
    assert measured(stripes).tolist() == [224, 224, 255, pytest.approx(1), 0, 255**2]
