"""Encoded images without what lies beside their pixels, so that nothing there can cost a picture.

Dropped before a decoder sees them are EXIF, XMP, profiles, texts, thumbnails, further pictures and unknown parts: a decoder
would refuse some for a wrong checksum, type or size. Kept are the parts that make pixels, damaged or not.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Callable

from tagger.images.jpeg import SOS, segments
from tagger.images.orientation import read_orientation

MAX_TEXT = 1 << 20  # bytes that are taken of a compressed text; what it says of orientation is near the beginning

_PNG_XMP, _PNG_EXIF = b"XML:com.adobe.xmp", b"Raw profile type exif"
_WEBP_PIXELS = (b"VP8X", b"VP8 ", b"VP8L", b"ALPH", b"ANIM", b"ANMF")
_WEBP_XMP, _WEBP_EXIF = 4, 8  # flags that these are there


def strip_side_information(data: bytes) -> tuple[bytes | bytearray, int | None]:
    """Return a JPEG, PNG or WebP reduced to its pixels, and its orientation (1 to 8); other data as it is, and None.

    Never raises: from where the data is no such file any more, it is kept, and the decoder says what is wrong.
    """
    for magic, strip in _STRIP.items():
        if data.startswith(magic):
            return strip(data)
    return data, None


def _strip_jpeg(data: bytes) -> tuple[bytearray, int]:
    kept, exif, xmp, rest = bytearray(data[:2]), bytearray(), b"", 2
    for code, start, end in segments(data):
        if code == SOS:
            break
        rest, body = end, data[start + 4 : end]
        if code == 0xE1 and body.startswith(b"Exif\0\0"):
            exif += body[6:]
        elif code == 0xE1 and body.startswith(b"http://ns.adobe.com/xap/1.0/\0"):
            xmp = body
        elif not (0xE0 <= code <= 0xEF or code == 0xFE) or _tells_colours(code, body):
            kept += data[start:end]
    kept += data[rest:]
    return kept, read_orientation(bytes(exif), xmp)


def _tells_colours(code: int, body: bytes) -> bool:
    """Say whether libjpeg learns from an application segment what the components are (jdmarker.c)."""
    jfif = code == 0xE0 and body.startswith(b"JFIF\0") and len(body) >= 14
    return jfif or (code == 0xEE and body.startswith(b"Adobe") and len(body) >= 12)


def _strip_png(data: bytes) -> tuple[bytearray, int]:
    view, kept, at, in_pixels = memoryview(data), bytearray(data[:8]), 8, False
    exif, texts = b"", dict.fromkeys((_PNG_XMP, _PNG_EXIF), (b"tEXt", b""))
    while at + 8 <= len(data):
        size, kind = struct.unpack_from(">I4s", data, at)
        end = at + 12 + size
        chunk = view[at:end]
        ancillary = kind[:1].islower()
        if not kind.isalpha() or (end > len(data) and not (ancillary and in_pixels)):
            kept += view[at:]
            break
        if not ancillary or (kind == b"tRNS" and _is_sound(chunk, shortest={b"\0": 2, b"\2": 6}.get(data[25:26], 0))):
            kept += chunk
            in_pixels |= kind == b"IDAT"
        elif kind == b"eXIf" and _is_sound(chunk):
            exif = bytes(chunk[8:-4])
        elif kind in (b"tEXt", b"zTXt", b"iTXt"):
            key = bytes(chunk[8:88]).split(b"\0")[0]
            if key in texts and _is_sound(chunk):
                texts[key] = (kind, bytes(chunk[9 + len(key) : -4]))
        at = end
    exif = exif or _read_profile(_read_text(*texts[_PNG_EXIF]))
    return kept, read_orientation(exif, _read_text(*texts[_PNG_XMP]))


def _is_sound(chunk: memoryview, shortest: int = 0) -> bool:
    """Say whether an ancillary chunk has its checksum and length; a browser ignores one that has not."""
    return len(chunk) >= 12 + shortest and zlib.crc32(chunk[4:-4]) == int.from_bytes(chunk[-4:])


def _read_text(kind: bytes, value: bytes) -> bytes:
    """Return what a text chunk holds after its key, of compressed text MAX_TEXT bytes (PNG specification, 11.3.3)."""
    compressed = kind == b"zTXt" or (kind == b"iTXt" and value[:1] != b"\0")
    value = {b"tEXt": value, b"zTXt": value[1:], b"iTXt": value[2:].split(b"\0", 2)[-1]}[kind]
    try:
        return zlib.decompressobj().decompress(value, MAX_TEXT) if compressed else value
    except zlib.error:
        return b""


def _read_profile(text: bytes) -> bytes:
    """Return the EXIF that ImageMagick writes as text: a name, a length, hexadecimal digits."""
    try:
        return bytes.fromhex(b"".join(text.split(b"\n")[3:]).decode("ascii"))
    except ValueError:
        return b""


def _strip_webp(data: bytes) -> tuple[bytes | bytearray, int | None]:
    data = data[: 8 + int.from_bytes(data[4:8], "little")]
    if data[8:12] != b"WEBP":
        return data, None
    kept, at = bytearray(b"WEBP"), 12
    beside: dict[bytes, bytes] = {}
    while at + 8 <= len(data):
        kind, size = struct.unpack_from("<4sI", data, at)
        end = at + 8 + size
        if kind not in _WEBP_PIXELS:
            beside.setdefault(kind, data[at + 8 : end])
        elif end > len(data):
            return data, None
        else:
            kept += data[at:end] + b"\0" * (size % 2)
        at = end + size % 2
    flags = int.from_bytes(kept[12:13]) if kept[4:8] == b"VP8X" else 0
    exif = beside.get(b"EXIF", b"") if flags & _WEBP_EXIF else b""
    xmp = beside.get(b"XMP ", b"") if flags & _WEBP_XMP else b""
    return b"RIFF" + struct.pack("<I", len(kept)) + kept, read_orientation(exif, xmp)


_STRIP: dict[bytes, Callable[[bytes], tuple[bytes | bytearray, int | None]]] = {
    b"\xff\xd8\xff": _strip_jpeg,
    b"\x89PNG\r\n\x1a\n": _strip_png,
    b"RIFF": _strip_webp,
}
