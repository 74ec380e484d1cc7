"""Bytes -> upright RGB -> the encoder's pixels, equal to the checkpoint's own image processor."""

from __future__ import annotations

import dataclasses
import io
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from transformers import AutoImageProcessor, BaseImageProcessor, CLIPImageProcessor

from tagger.core.errors import ImageError
from tagger.core.types import FORMATS, Preprocessing
from tagger.encoders.clip_preprocessing import read_preprocessing
from tagger.images import decode as module
from tagger.images.decode import decode, read_pixels

SIZES = [(1, 1), (3000, 20), (20, 3000), (64, 64), (65, 64), (400, 533), (533, 401), (37, 211), (224, 225)]


def encoded(image: Image.Image, kind: str = "PNG", **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def pixels_of(image: Image.Image, preprocessing: Preprocessing) -> torch.Tensor:
    return read_pixels(encoded(image), FORMATS, {"clip": preprocessing})["clip"]


def noise(width: int, height: int) -> Image.Image:
    values = np.random.default_rng(width * 10_000 + height).integers(0, 256, (height, width, 3), np.uint8)
    return Image.fromarray(values)


PROCESSORS: dict[str, dict[str, object]] = {
    "clip": {},
    "square": {"size": {"height": 96, "width": 64}, "do_center_crop": False},
    "bilinear": {"resample": Image.Resampling.BILINEAR, "crop_size": {"height": 200, "width": 180}},
    "crop wider than the resize": {"size": {"shortest_edge": 32}, "crop_size": {"height": 48, "width": 47}},
}


def make_processor(folder: Path, **values: object) -> BaseImageProcessor:
    """The processor that transformers picks for a CLIP checkpoint with these values."""
    CLIPImageProcessor(**values).save_pretrained(folder)
    return AutoImageProcessor.from_pretrained(folder)


@pytest.mark.parametrize("size", SIZES, ids=str)
@pytest.mark.parametrize("name", PROCESSORS)
def test_pixels_equal_the_checkpoints_own_processor(tmp_path: Path, name: str, size: tuple[int, int]):
    processor, image = make_processor(tmp_path, **PROCESSORS[name]), noise(*size)
    expected = processor(image, do_rescale=False, do_normalize=False, return_tensors="pt")["pixel_values"][0]
    pixels = pixels_of(image, read_preprocessing(tmp_path, name))
    assert pixels.dtype == torch.uint8
    assert torch.equal(pixels, expected)


@given(width=st.integers(1, 500), height=st.integers(1, 500))
@settings(max_examples=40, deadline=None)
def test_pixels_always_have_the_encoders_shape(width: int, height: int):
    shape = Preprocessing(resize=32, crop=(32, 24), resample=3, rescale=1 / 255, mean=(0, 0, 0), std=(1, 1, 1))
    assert pixels_of(Image.new("RGB", (width, height)), shape).shape == (3, 32, 24)


def test_photos_equal_the_checkpoints_own_processor(tmp_path: Path, shared_data: Path):
    processor = make_processor(tmp_path)
    for path in sorted((shared_data / "clothing" / "validation" / "shoes").iterdir())[:20]:
        with Image.open(path) as photo:
            expected = processor(photo, do_rescale=False, do_normalize=False, return_tensors="pt")["pixel_values"][0]
        preprocessing = dataclasses.replace(read_preprocessing(tmp_path, "clip"), exact=True)
        assert torch.equal(read_pixels(path.read_bytes(), FORMATS, {"clip": preprocessing})["clip"], expected)


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP"])
def test_every_allowed_format_is_decoded(kind: str):
    image = decode(encoded(Image.new("RGB", (9, 5), (200, 40, 10)), kind))
    assert (image.mode, image.size) == ("RGB", (9, 5))
    assert np.abs(np.asarray(image).astype(int) - (200, 40, 10)).max() <= 8  # JPEG and WebP are lossy


@pytest.mark.parametrize("kind", ["GIF", "BMP", "TIFF", "ICO", "PPM", "EPS"])
def test_other_formats_are_not_images(kind: str):
    with pytest.raises(ImageError, match="expected JPEG, PNG, WEBP") as caught:
        decode(encoded(Image.new("RGB", (16, 16)), kind))
    assert caught.value.code == "not-an-image"


def test_the_orientation_in_exif_is_applied():
    image = Image.new("RGB", (20, 10), "white")
    image.putpixel((0, 0), (0, 0, 0))
    exif = Image.Exif()
    exif[0x0112] = 6  # the camera was turned: the left edge of the file is the top of the picture
    turned = decode(encoded(image, exif=exif))
    assert turned.size == (10, 20)
    assert turned.getpixel((9, 0)) == (0, 0, 0)


def palette(transparent: bool) -> tuple[Image.Image, dict[str, object]]:
    image = Image.new("P", (8, 8), 1)
    image.putpalette([0, 0, 0, 255, 0, 0])
    return image, {"transparency": 1} if transparent else {}


@pytest.mark.parametrize(
    ("image", "options", "colour"),
    [
        (Image.new("L", (8, 8), 90), {}, (90, 90, 90)),
        (Image.new("1", (8, 8), 1), {}, (255, 255, 255)),
        (*palette(transparent=False), (255, 0, 0)),
        (*palette(transparent=True), (255, 255, 255)),
        (Image.new("RGBA", (8, 8), (0, 0, 0, 0)), {}, (255, 255, 255)),
        (Image.new("RGBA", (8, 8), (0, 0, 255, 255)), {}, (0, 0, 255)),
        (Image.new("LA", (8, 8), (0, 0)), {}, (255, 255, 255)),
        (Image.new("RGB", (8, 8), (1, 2, 3)), {"transparency": (1, 2, 3)}, (255, 255, 255)),
        (Image.fromarray(np.full((8, 8), 90 * 256 + 17, np.uint16)), {}, (90, 90, 90)),
    ],
    ids=["grey", "bits", "palette", "transparent palette", "transparent", "opaque", "grey alpha", "colour key", "16 bits"],
)
def test_every_mode_becomes_rgb_with_transparency_on_white(
    image: Image.Image, options: dict[str, object], colour: tuple[int, ...]
):
    decoded = decode(encoded(image, **options))
    assert decoded.mode == "RGB"
    assert decoded.getpixel((4, 4)) == colour


def test_cmyk_becomes_rgb():
    pixel = decode(encoded(Image.new("CMYK", (8, 8), (0, 255, 255, 0)), "JPEG")).getpixel((4, 4))
    assert np.abs(np.array(pixel) - (255, 0, 0)).max() <= 8


def test_an_animation_gives_its_first_frame():
    frames = [Image.new("RGB", (8, 8), colour) for colour in ("red", "blue")]
    assert decode(encoded(frames[0], save_all=True, append_images=frames[1:])).getpixel((4, 4)) == (255, 0, 0)


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP"])
def test_half_a_file_is_an_error(kind: str):
    data = encoded(noise(64, 64), kind)
    with pytest.raises(ImageError) as caught:
        decode(data[: len(data) // 2])
    assert caught.value.code in {"truncated", "corrupt", "not-an-image"}


def test_a_jpeg_cut_off_says_truncated():
    data = encoded(noise(64, 64), "JPEG")
    with pytest.raises(ImageError, match="^truncated: "):
        decode(data[: len(data) // 2])


def test_a_decompression_bomb_is_refused_before_it_is_decoded(monkeypatch: pytest.MonkeyPatch):
    data = encoded(Image.new("1", (4000, 3000)))
    for limit in (3_000_000, 11_999_999):  # Pillow warns of the one and refuses the other
        monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", limit)
        with pytest.raises(ImageError, match="^too-large: "):
            decode(data)


def test_a_strip_that_the_resize_would_blow_up_is_refused(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(module, "MAX_PIXELS", 1_000_000)
    shape = Preprocessing(resize=224, crop=(224, 224), resample=3, rescale=1 / 255, mean=(0, 0, 0), std=(1, 1, 1))
    with pytest.raises(ImageError, match="^too-large: 1 x 5000 would become 224 x 1120000 pixels"):
        pixels_of(Image.new("RGB", (1, 5000)), shape)


def outcome(data: bytes) -> str:
    try:
        return "decoded" if decode(data).mode == "RGB" else "not RGB"
    except ImageError as error:
        return error.code


def test_hostile_images_cost_only_their_rows(shared_data: Path):
    """Every file of two test suites decodes or gives an ImageError with a code from the list."""
    codes = {"decoded", "not-an-image", "truncated", "corrupt", "too-large"}
    outcomes: Counter[str] = Counter()
    for path in sorted((shared_data / "bad-images").rglob("*")):
        if path.is_file():
            outcomes[outcome(path.read_bytes())] += 1
    assert set(outcomes) <= codes
    assert outcomes["decoded"] > 200
    assert outcomes["not-an-image"] > 200


@given(data=st.binary(max_size=400))
@settings(max_examples=200, deadline=None)
def test_no_bytes_raise_anything_but_an_image_error(data: bytes):
    for head in (
        b"",
        b"\xff\xd8\xff\xe0\x00\x10JFIF\x00",
        b"\x89PNG\r\n\x1a\n\x00\x00\x00\rIHDR",
        b"RIFF\x00\x01\x00\x00WEBPVP8 ",
    ):
        with pytest.raises(ImageError):
            decode(head + data)
