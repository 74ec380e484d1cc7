"""Small pictures for pages: whatever the file is, what comes out is a WebP of our own, or why there is none."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
from PIL import Image

from tagger.core.errors import ImageError
from tagger.core.types import ImagePolicy, ImageRef
from tagger.images.thumbnails import Thumbnail, read_thumbnails

SECRET = b"taken at home"


def jpeg(width: int, height: int) -> bytes:
    pixels = np.linspace(0, 255, width * height * 3).reshape(height, width, 3).astype(np.uint8)
    exif = Image.Exif()
    exif[0x010E] = SECRET.decode()
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "JPEG", exif=exif)
    return buffer.getvalue()


def test_each_reference_gives_a_small_picture_or_says_why_not(tmp_path: Path):
    (tmp_path / "wide.jpg").write_bytes(jpeg(640, 320))
    refs = [
        ImageRef(7, path="wide.jpg"),
        ImageRef(3, path="gone.jpg"),
        ImageRef(4, data=jpeg(40, 30)),
        ImageRef(5, data=b"no image"),
        ImageRef(6, path="../outside.jpg"),
        ImageRef(8, path="https://elsewhere.example/1.jpg"),
        ImageRef(9),
    ]
    policy = ImagePolicy(roots=(tmp_path.resolve(),))
    found = dict(read_thumbnails(refs, policy, side=64, workers=2))
    assert list(found) == [7, 3, 4, 5, 6, 8, 9]
    pictures = {row: one for row, one in found.items() if isinstance(one, Thumbnail)}
    assert {row: (one.width, one.height) for row, one in pictures.items()} == {7: (64, 32), 4: (64, 48)}
    codes = {row: one.code for row, one in found.items() if isinstance(one, ImageError)}
    assert codes == {3: "missing", 5: "not-an-image", 6: "forbidden-path", 8: "forbidden-path", 9: "missing"}
    for one in pictures.values():
        assert one.uri.startswith("data:image/webp;base64,")
        assert SECRET not in one.data
        assert one.decode().size == (one.width, one.height)
