"""Pictures of the sample catalogue, of which three rows are bad on purpose."""

from __future__ import annotations

from pathlib import Path

from PIL import Image


def is_whole(path: Path) -> bool:
    """Tell whether Pillow reads the file to its end."""
    try:
        with Image.open(path) as image:
            image.load()
    except OSError:
        return False
    return True
