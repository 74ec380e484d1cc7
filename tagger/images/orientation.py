"""Which way up a picture is, read from its EXIF or XMP alone, whatever else these hold."""

from __future__ import annotations

import re

from PIL import Image

ORIENTATION = 0x0112  # the tag of EXIF, its values 1 to 8
QUARTER_TURNS = (5, 6, 7, 8)

_TRANSPOSE = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
_SIZES = {3: 2, 4: 4, 8: 2, 9: 4}  # bytes of a whole number, by TIFF type: SHORT, LONG, SSHORT, SLONG


def read_orientation(exif: bytes, xmp: bytes) -> int:
    """Return 1 to 8 as EXIF counts, from XMP where EXIF has none; 1 for what says nothing, or nonsense."""
    orientation = _from_exif(exif)
    if orientation is None and (found := re.search(rb'tiff:Orientation(?:="|>)([0-9])', xmp)):
        orientation = int(found[1])
    return orientation if orientation in _TRANSPOSE else 1


def _from_exif(exif: bytes) -> int | None:
    """Return the value in the first directory, 0 for one of another type (TIFF 6.0, section 2), None without the tag."""
    tiff = exif.removeprefix(b"Exif\0\0").removeprefix(b"Exif\0\0")  # some write it twice
    if tiff[:2] not in (b"II", b"MM") or tiff[2:4] not in (b"*\0", b"\0*"):
        return None

    def number(start: int, size: int) -> int:
        return int.from_bytes(tiff[start : start + size], "little" if tiff[:2] == b"II" else "big")

    orientation = None
    first = number(4, 4) + 2
    for entry in range(first, min(first + 12 * number(first - 2, 2), len(tiff) - 11), 12):
        if number(entry, 2) == ORIENTATION:
            size = _SIZES.get(number(entry + 2, 2), 0)
            orientation = number(entry + 8, size) if number(entry + 4, 4) == 1 else 0
    return orientation


def turn_upright(image: Image.Image, orientation: int) -> Image.Image:
    """Return the image as it is to be seen."""
    return image.transpose(_TRANSPOSE[orientation]) if orientation in _TRANSPOSE else image
