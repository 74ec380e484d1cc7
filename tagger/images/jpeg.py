"""JPEG to pixels no larger than they are needed: what takes most of the time that images take."""

from __future__ import annotations

import hashlib
import io
import re
import warnings
from collections.abc import Iterator
from random import Random

import numpy as np
import torch
from PIL import Image
from torchvision.io import ImageReadMode, decode_jpeg

from tagger.images.orientation import QUARTER_TURNS, turn_upright
from tagger.images.reading import ENOUGH

SOS = 0xDA  # start of scan, the marker before pixels

_SEQUENTIAL, _PROGRESSIVE = (0xC0, 0xC1, 0xC9), (0xC2, 0xCA)  # start of frame, by the kinds of scans that follow
_MARKER = re.compile(rb"\xff([^\x00\xff])")
_END = b"\xff\xd9"
# What decodes to unlike pixels: it begins with all sequences of four bits, and goes on behind restart markers (0xD0 to 0xD7)
# in whatever order they are due.
_NOISE = [bytes((17 * number ^ 5,)) + Random(number).randbytes(63).replace(b"\xff", b"") for number in range(16)]
_TAILS = [
    b"".join(noise + bytes((0xFF, 0xD0 + (first + number) % 8)) for number in range(8)) + noise
    for first, noise in enumerate(_NOISE)
]


def segments(data: bytes | bytearray) -> Iterator[tuple[int, int, int]]:
    """Yield the code, start and end of a JPEG's segments, to its end marker or to what is unknown or cut off.

    A segment is a marker and what belongs to it; what lies between them, be it junk or the pixels of a scan, belongs to none.
    """
    at = 2
    while found := _MARKER.search(data, at):
        start, code = found.start(), data[found.end() - 1]
        at = start + 2
        if not 0xD0 <= code <= 0xD9:  # these have no content
            at += max(int.from_bytes(data[at : at + 2]), 2)
        if code < 0xC0 or at > len(data):
            return
        yield code, start, at
        if data[start:at] == _END:
            return


def complete(data: bytes | bytearray) -> bytes | bytearray:
    """Append the end marker to a JPEG that lacks nothing but it; return any other data as it is. Raises MemoryError.

    The pixels are whole if all scans are there and other bytes behind the data change nothing: where data is missing, a
    decoder takes them for it.
    """
    if data[:3] != b"\xff\xd8\xff" or data.rfind(_END) > data.find(b"\xff\xda"):
        return data
    cut = data.rstrip(b"\xff")
    try:
        if _has_all_scans(data):
            pixels = _digest(cut + _END)
            if all(_digest(cut + tail + _END) == pixels for tail in _TAILS):
                return cut + _END
    except MemoryError:
        raise
    except Exception:  # noqa: BLE001  # whatever is wrong with it, its decoder says so again
        pass
    return data


def _has_all_scans(data: bytes | bytearray) -> bool:
    """Say whether the scans give all 64 coefficients of every component to the last bit (ITU T.81, B.2.3)."""
    missing, progressive, framed = set[tuple[int, int]](), False, False
    for code, start, end in segments(data):
        body = data[start + 4 : end]
        if code in _SEQUENTIAL + _PROGRESSIVE:
            missing = {(component, number) for component in body[6::3] for number in range(64)}
            progressive, framed = code in _PROGRESSIVE, True
        elif code == SOS:
            first, last, bits = body[1 + 2 * body[0] :] if progressive else (0, 63, 0)
            if bits % 16 == 0:
                components = body[1 : 1 + 2 * body[0] : 2]
                missing -= {(component, number) for component in components for number in range(first, last + 1)}
    return framed and not missing


def _digest(data: bytes | bytearray) -> bytes:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        warnings.simplefilter("error", Image.DecompressionBombWarning)
        with Image.open(io.BytesIO(data), formats=("JPEG",)) as image:
            return hashlib.sha256(image.tobytes()).digest()


def decode_reduced(
    data: bytes | bytearray, orientation: int, shorter_side: int
) -> tuple[torch.Tensor, tuple[float, float], tuple[int, int]] | None:
    """Decode a JPEG upright, its sides divided by 1, 2, 4 or 8, the shorter one still ENOUGH times `shorter_side`.

    data, orientation: as strip_side_information returns them.
    Returns uint8 (3, H, W) and the height and width of the whole, in these pixels and in its own: a side of 533 halved is 266.5
    long, in 267 pixels, and to forget that moves the picture. Returns None for what is no plain JPEG, be it damaged or of a rare
    kind: the decoder of all formats (decode.py) then says what is wrong. libjpeg reduces by leaving out the finer half of its
    coefficients.
    """
    if data[:3] != b"\xff\xd8\xff":
        return None
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            with Image.open(io.BytesIO(data), formats=("JPEG",)) as image:
                if image.mode not in ("RGB", "L"):
                    return None
                width, height = image.size
                shorter = min(width, height)
                if shorter < 2 * ENOUGH * shorter_side and orientation == 1:  # the quicker decoder, which cannot reduce
                    pixels = decode_jpeg(torch.frombuffer(data, dtype=torch.uint8), ImageReadMode.RGB)
                    return pixels, (height, width), (height, width)
                image.draft("RGB", (width * ENOUGH * shorter_side // shorter, height * ENOUGH * shorter_side // shorter))
                image.load()
                reduction = round(width / image.width)
                if orientation in QUARTER_TURNS:
                    height, width = width, height
                upright = turn_upright(image.convert("RGB"), orientation)
                pixels = torch.from_numpy(np.array(upright)).permute(2, 0, 1)
                return pixels, (height / reduction, width / reduction), (height, width)
    except Exception:  # noqa: BLE001  # see above
        return None
