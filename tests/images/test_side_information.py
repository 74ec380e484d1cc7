"""What lies beside the pixels of an image never costs its row: the picture a browser shows is the picture that is tagged."""

from __future__ import annotations

import io
import struct
import tracemalloc
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from tagger.core.errors import ImageError
from tagger.core.types import FORMATS, ImagePolicy, ImageRef, Preprocessing
from tagger.images.decode import decode, read_pixels
from tagger.images.headers import read_headers
from tagger.images.side_information import strip_side_information

SHORT, LONG, DOUBLE = 3, 4, 12  # types of TIFF
ORIENTATION, ICC, GPS, EXIF, MAKER_NOTE = 0x0112, 0x8773, 0x8825, 0x8769, 0x927C
CLIP = Preprocessing(resize=32, crop=(32, 32), resample=3, rescale=1 / 255, mean=(0, 0, 0), std=(1, 1, 1))


def photo(width: int = 24, height: int = 16) -> Image.Image:
    """Something smooth, each corner of its own colour."""
    y, x = np.mgrid[0:height, 0:width]
    return Image.fromarray(np.stack([x * 10, y * 12, x * 4 + y * 6], -1).astype(np.uint8))


def encoded(kind: str, image: Image.Image | None = None, **options: object) -> bytes:
    buffer = io.BytesIO()
    (image or photo()).save(buffer, kind, **options)
    return buffer.getvalue()


def entry(tag: int, kind: int, count: int, value: int | bytes, order: str = "<") -> bytes:
    """An entry of a TIFF directory; a number stands at the value's beginning."""
    content = value if isinstance(value, bytes) else struct.pack(order + ("H" if kind == SHORT else "I"), value)
    return struct.pack(order + "HHI", tag, kind, count) + content.ljust(4, b"\0")


def tiff(*entries: bytes, order: str = "<") -> bytes:
    head = {"<": b"II*\0", ">": b"MM\0*"}[order]
    return head + struct.pack(order + "IH", 8, len(entries)) + b"".join(entries) + bytes(4)


TURNED = entry(ORIENTATION, SHORT, 1, 6)


def segment(code: int, body: bytes) -> bytes:
    return bytes((0xFF, code)) + struct.pack(">H", len(body) + 2) + body


def jpeg(*parts: bytes, **options: object) -> bytes:
    data = encoded("JPEG", **options)
    return data[:2] + b"".join(parts) + data[2:]


def chunk(kind: bytes, body: bytes, wrong: int = 0) -> bytes:
    return struct.pack(">I", len(body)) + kind + body + (zlib.crc32(kind + body) ^ wrong).to_bytes(4)


def png(*parts: bytes, behind: bytes = b"", **options: object) -> bytes:
    """A PNG with parts behind its header, and more behind its pixels."""
    data = encoded("PNG", **options)
    return data[:33] + b"".join(parts) + data[33:-12] + behind + data[-12:]


def riff(kind: bytes, body: bytes) -> bytes:
    return kind + struct.pack("<I", len(body)) + body + bytes(len(body) % 2)


def webp(*parts: bytes, flags: int = 8 + 4 + 32, size: int | None = None) -> bytes:
    """A lossless WebP in the extended format, which says that EXIF, XMP and a profile are there."""
    pixels = encoded("WEBP", lossless=True)[12:]
    body = b"WEBP" + riff(b"VP8X", bytes((flags, 0, 0, 0, 23, 0, 0, 15, 0, 0))) + pixels + b"".join(parts)
    return b"RIFF" + struct.pack("<I", len(body) if size is None else size) + body


PACKINGS: dict[str, Callable[[bytes], bytes]] = {
    "JPEG": lambda exif: jpeg(segment(0xE1, b"Exif\0\0" + exif)),
    "PNG": lambda exif: png(chunk(b"eXIf", exif)),
    "PNG at the end": lambda exif: png(behind=chunk(b"eXIf", exif)),
    "PNG by ImageMagick": lambda exif: png(
        chunk(b"zTXt", b"Raw profile type exif\0\0" + zlib.compress(b"\nexif\n%8d\n%s\n" % (len(exif), exif.hex().encode())))
    ),
    "WEBP": lambda exif: webp(riff(b"EXIF", exif)),
}


def pixels(data: bytes) -> np.ndarray[tuple[int, ...], np.dtype[np.uint8]]:
    return np.asarray(decode(data))


@pytest.mark.parametrize("packing", PACKINGS)
@pytest.mark.parametrize(
    "exif",
    [
        tiff(TURNED),
        tiff(entry(ORIENTATION, SHORT, 1, 6, ">"), order=">"),
        b"Exif\0\0" + tiff(TURNED),
        tiff(entry(ORIENTATION, LONG, 1, 6)),
        tiff(TURNED, entry(GPS, DOUBLE, 1, 4_000_000)),
        tiff(TURNED, entry(GPS, 2, 4, b"52N\0")),
        tiff(TURNED, entry(EXIF, LONG, 1, 0xFFFFFFFF)),
        tiff(TURNED, entry(EXIF, LONG, 1, 8)),
        tiff(TURNED, entry(MAKER_NOTE, 7, 0xFFFFFFFF, 0)),
        tiff(TURNED, entry(ICC, 99, 3, 0)),
        tiff(TURNED, *(entry(tag, 5, 1, 8) for tag in (0x011A, 0x011B, 0x0128))),
        tiff(entry(0x0100, 5, 1, b"\xff\xff\xff\xff"), TURNED)[:-4],
    ],
    ids=[
        "plain", "big-endian", "with its JPEG head", "as LONG", "GPS as double", "GPS as text", "EXIF out of bounds",
        "EXIF in a circle", "an endless maker's note", "an unknown type", "odd resolutions", "no end",
    ],
)  # fmt: skip
def test_the_orientation_is_read_whatever_else_is_in_exif(packing: str, exif: bytes):
    upright = np.rot90(pixels(PACKINGS[packing](b"")), -1)
    assert np.array_equal(pixels(PACKINGS[packing](exif)), upright)


@pytest.mark.parametrize("packing", PACKINGS)
@pytest.mark.parametrize(
    "exif",
    [
        b"junk", tiff(TURNED)[:14], tiff(), b"II*\0\xff\xff\xff\xff", tiff(entry(ORIENTATION, SHORT, 1, 0)),
        tiff(entry(ORIENTATION, SHORT, 1, 9)), tiff(entry(ORIENTATION, SHORT, 70_000, 6)), tiff(entry(ORIENTATION, 2, 2, b"6\0")),
    ],
    ids=["junk", "cut off", "empty", "directory out of bounds", "0", "9", "70,000 values", "text"],
)  # fmt: skip
def test_nonsense_for_an_orientation_turns_nothing(packing: str, exif: bytes):
    assert np.array_equal(pixels(PACKINGS[packing](exif)), pixels(PACKINGS[packing](b"")))


@pytest.mark.parametrize("value", range(1, 9))
def test_every_orientation_is_turned_the_same_reduced_or_not(value: int):
    data = jpeg(segment(0xE1, b"Exif\0\0" + tiff(entry(ORIENTATION, SHORT, 1, value))), image=photo(480, 320))
    upright = pixels(jpeg(image=photo(480, 320)))
    upright = {2: np.fliplr, 4: np.flipud, 3: lambda it: np.rot90(it, 2), 6: lambda it: np.rot90(it, -1), 8: np.rot90}.get(
        value, lambda it: it if value == 1 else np.swapaxes(it if value == 5 else np.rot90(it, 2), 0, 1)
    )(upright)
    assert np.array_equal(pixels(data), upright)
    reduced = read_pixels(data, FORMATS, {"clip": CLIP})["clip"].numpy().astype(int)
    assert (
        np.abs(reduced - read_pixels(encoded("PNG", Image.fromarray(upright)), FORMATS, {"clip": CLIP})["clip"].numpy()).max()
        < 12
    )


XMP = b'<x:xmpmeta tiff:Orientation="6">' + b"<photoshop:DocumentAncestors>" * 60_000


@pytest.mark.parametrize(
    "data",
    [
        jpeg(segment(0xE1, b"http://ns.adobe.com/xap/1.0/\0" + XMP[:60_000])),
        png(chunk(b"iTXt", b"XML:com.adobe.xmp\0\1\0\0\0" + zlib.compress(XMP))),
        png(chunk(b"iTXt", b"XML:com.adobe.xmp\0\0\0\0\0" + XMP)),
        webp(riff(b"XMP ", XMP)),
    ],
    ids=["JPEG", "PNG, compressed", "PNG", "WebP"],
)
def test_the_orientation_is_read_from_long_xmp(data: bytes):
    assert decode(data).size == (16, 24)


MULTI_PICTURE = (
    b"MPF\0" + tiff(entry(0xB001, LONG, 1, 2), entry(0xB002, 7, 32, 38)) + struct.pack("<LLLHH", 0, 9, 1 << 31, 0, 0) * 2
)


@pytest.mark.parametrize(
    "part",
    [
        segment(0xE2, b"ICC_PROFILE\0"), segment(0xE2, b"ICC_PROFILE\0\2\1" + bytes(999)), segment(0xE0, b"JFIF\0"),
        segment(0xEE, b"Adobe"), segment(0xED, b"Photoshop 3.0\0" + b"8BIM\3\xed"), segment(0xE2, b"FPXR\0"),
        segment(0xE2, b"MPF\0junk"), segment(0xE2, MULTI_PICTURE), segment(0xE2, MULTI_PICTURE[:40]),
        segment(0xE1, b"Exif\0\0junk"), segment(0xFE, b"\xff" * 999), segment(0xEB, bytes(60_000)) * 300,
        segment(0xFE, b"") + b"\0\0junk\0",
        segment(0xE1, b"Exif\0\0" + tiff(entry(0x0128, SHORT, 1, 2), entry(0x011A, 10, 1, 4))),
    ],
    ids=[
        "no profile", "a profile of other parts", "short JFIF", "short Adobe", "Photoshop", "FlashPix", "MPF", "lost pictures",
        "half an MPF", "EXIF", "comment", "18 MB", "junk", "resolution",
    ],
)  # fmt: skip
def test_no_segment_beside_the_pixels_costs_a_jpeg(part: bytes):
    assert np.array_equal(pixels(jpeg(part)), pixels(jpeg()))
    assert np.array_equal(*(read_pixels(data, FORMATS, {"clip": CLIP})["clip"].numpy() for data in (jpeg(part), jpeg())))


def test_the_segments_that_say_what_the_components_are_stay():
    for kept in (encoded("JPEG", keep_rgb=True), encoded("JPEG", photo().convert("CMYK"))):
        with Image.open(io.BytesIO(kept)) as image:
            assert np.array_equal(pixels(kept), np.asarray(image.convert("RGB")))


BOMB = zlib.compress(bytes(64 << 20))


@pytest.mark.parametrize(
    "parts",
    [
        (chunk(b"gAMA", bytes(4), wrong=1),), (chunk(b"iCCP", b"name\0\0" + BOMB),), (chunk(b"iCCP", b"name\0\7junk"),),
        (chunk(b"zTXt", b"Comment\0\0" + BOMB),), (chunk(b"zTXt", b"XML:com.adobe.xmp\0\0" + BOMB),),
        tuple(chunk(b"tEXt", b"Comment\0" + bytes(900_000)) for _ in range(80)), (chunk(b"eXIf", bytes(3 << 20)),),
        (chunk(b"eXIf", tiff(TURNED), wrong=1),), (chunk(b"cHRM", b""),), (chunk(b"pHYs", b"\0"),),
        (chunk(b"prVt", bytes(9), wrong=9),),
        (chunk(b"acTL", bytes(2)),), (chunk(b"acTL", bytes(8)), chunk(b"fcTL", bytes(26))), (chunk(b"tRNS", b"\0"),),
        (chunk(b"tRNS", bytes(6), wrong=1),), (chunk(b"sRGB", b""),), (chunk(b"iTXt", b"XML:com.adobe.xmp\0\1\0\0\0junk"),),
        (chunk(b"zTXt", b"Raw profile type exif\0\0" + zlib.compress(b"\nexif\n 2\nno")),), (chunk(b"tEXt", b""),),
    ],
    ids=[
        "gamma's checksum", "a huge profile", "a profile of another compression", "a huge comment", "huge XMP", "72 MB of text",
        "3 MB of EXIF", "EXIF's checksum", "chromaticities", "resolution", "private", "animation", "frames", "short transparency",
        "transparency's checksum", "colour space", "XMP", "raw profile", "empty text",
    ],
)  # fmt: skip
def test_no_chunk_beside_the_pixels_costs_a_png(parts: tuple[bytes, ...]):
    for data in (png(*parts), png(behind=b"".join(parts))):
        assert np.array_equal(pixels(data), np.asarray(photo()))


def test_a_png_cut_off_behind_its_pixels_is_whole():
    data = png(behind=chunk(b"tEXt", b"Comment\0" + bytes(99)))
    assert np.array_equal(pixels(data[:-60]), np.asarray(photo()))


def test_a_text_of_a_png_is_not_unpacked_whole():
    data = png(*(chunk(b"zTXt", key + b"\0\0" + BOMB) for key in (b"XML:com.adobe.xmp", b"Raw profile type exif", b"Title")))
    tracemalloc.start()
    try:
        decode(data)
        assert tracemalloc.get_traced_memory()[1] < 16 << 20
    finally:
        tracemalloc.stop()


def test_the_header_of_a_png_with_odd_chunks_is_read(tmp_path: Path):
    data = png(chunk(b"iCCP", b"name\0\0" + BOMB))
    (tmp_path / "odd.png").write_bytes(data)
    assert list(read_headers([ImageRef(0, "odd.png")], ImagePolicy(roots=(tmp_path,)))) == [("PNG", 24, 16, len(data))]


PALETTE = photo().convert("P")


def with_a_wrong_checksum(data: bytes, kind: bytes) -> bytes:
    start = data.index(kind)
    end = start + 4 + int.from_bytes(data[start - 4 : start])
    return data[:end] + bytes((data[end] ^ 1,)) + data[end + 1 :]


@pytest.mark.parametrize(
    ("data", "code"),
    [
        (with_a_wrong_checksum(png(), b"IHDR"), "not-an-image"),
        (with_a_wrong_checksum(encoded("PNG", PALETTE), b"PLTE"), "not-an-image"),
        (png()[:50] + b"\xff\xff\xff" + png()[53:], "corrupt"),
        (png()[:-40], "truncated"),
        (webp()[:-20], "corrupt"),
    ],
    ids=["header's checksum", "palette", "pixels", "half a PNG", "half a WebP"],
)
def test_damage_in_what_makes_the_pixels_stays_an_error(data: bytes, code: str):
    with pytest.raises(ImageError) as caught:
        decode(data)
    assert caught.value.code == code


@pytest.mark.parametrize(
    "data",
    [
        webp(riff(b"EXIF", b"junk")), webp(riff(b"EXIF", bytes(99))[:-50]), webp(riff(b"XMP ", b"\xff" * 3)[:-1]),
        webp(riff(b"ICCP", b"")), webp(riff(b"what", bytes(3 << 20))), webp(size=1 << 30), webp(b"EXI"), webp(flags=0),
        webp(riff(b"EXIF", tiff(TURNED)), flags=0),
    ],
    ids=["EXIF", "EXIF cut off", "XMP without its padding", "an empty profile", "unknown", "size", "a stub",
        "plain", "no EXIF, it says"],
)  # fmt: skip
def test_no_chunk_beside_the_pixels_costs_a_webp(data: bytes):
    assert np.array_equal(pixels(data), np.asarray(photo()))


@given(
    data=st.binary(max_size=300), whole=st.sampled_from([jpeg(), png(), webp(), encoded("PNG", PALETTE)]), at=st.integers(0, 200)
)
@settings(max_examples=300, deadline=None)
def test_stripping_never_raises_and_changes_no_more_the_second_time(data: bytes, whole: bytes, at: int):
    for odd in (whole[: at % 16 + 2] + data, whole[:at] + data + whole[at:]):
        stripped, _ = strip_side_information(odd)
        assert bytes(strip_side_information(bytes(stripped))[0]) == bytes(stripped)
