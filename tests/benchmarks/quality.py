"""Count the photos that [quality] sends to review, as they are and darkened, washed out or blurred.

python tests/benchmarks/quality.py --every 17

The limits are those that the README names. Every photo is measured as it is; every so many, from the first on, is changed, saved
as a JPEG and measured again.
"""

from __future__ import annotations

import argparse
import io
import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2]))

import numpy as np
from common import DATA, QUALITY, machine, print_table
from PIL import Image, ImageEnhance, ImageFilter

from tagger.core.types import FORMATS, Preprocessing, QualityLimits
from tagger.images.decode import decode_for, resize
from tagger.images.quality import find_flaws, measure

CLIP = {"clip": Preprocessing(resize=224, crop=(224, 224), resample=3, rescale=1 / 255, mean=(0, 0, 0), std=(1, 1, 1))}
LIMITS = QualityLimits(min_aspect_ratio=0.35, min_brightness=0.32, max_brightness=0.9, min_sharpness=30)
FLAWS = ("extreme shape", "too dark", "washed out", "blurred")


def blurred(radius: int) -> Callable[[Image.Image], Image.Image]:
    return lambda image: image.filter(ImageFilter.GaussianBlur(radius))


def darkened(factor: float) -> Callable[[Image.Image], Image.Image]:
    return lambda image: ImageEnhance.Brightness(image).enhance(factor)


def washed_out(white: float) -> Callable[[Image.Image], Image.Image]:
    return lambda image: Image.blend(image, Image.new("RGB", image.size, "white"), white)


CHANGES = {
    **{f"blurred by {radius} pixels": blurred(radius) for radius in (2, 3, 4)},
    **{f"darkened to {factor}": darkened(factor) for factor in (0.5, 0.3, 0.2)},
    **{f"{white:.0%} white over it": washed_out(white) for white in (0.8, 0.9, 0.95)},
}


def measured(data: bytes) -> np.ndarray:
    """Return what a run measures of an image's bytes."""
    picture = decode_for(data, FORMATS, CLIP)
    return measure(picture, resize(picture, CLIP)["clip"])


def line(name: str, measures: list[np.ndarray]) -> list[object]:
    """Return a row of the table: pictures, and how many have which flaw."""
    flaws = find_flaws(np.array(measures), LIMITS)
    found = Counter(flaw.partition(",")[0] for flaw in flaws.values())
    return [name, f"{len(measures):,}", f"{len(flaws) / len(measures):.1%}", *(found[flaw] for flaw in FLAWS)]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--photos", type=Path, default=DATA / "clothing", help="folder of JPEGs; default: in TAGGER_TEST_DATA")
    parser.add_argument("--every", type=int, default=17, help="photos of which one is changed")
    options = parser.parse_args()
    files = sorted(options.photos.rglob("*.jpg"))
    print(machine("tagger", "pillow"))
    table = [line("none", [measured(file.read_bytes()) for file in files])]
    photos = [Image.open(file).convert("RGB") for file in files[:: options.every]]
    for name, change in CHANGES.items():
        measures = []
        for photo in photos:
            change(photo).save(buffer := io.BytesIO(), "JPEG", quality=QUALITY)
            measures.append(measured(buffer.getvalue()))
        table.append(line(name, measures))
    print_table(["change", "pictures", "to review", *FLAWS], table)


if __name__ == "__main__":
    main()
