"""Why a picture can be none of a product, though it decodes: a spacer, an empty page, a photo in the dark or out of focus.

What is measured is kept beside the picture's embedding, so that other limits take no second look at it. What is too dark, too
light or of an odd shape is so by cleanvision's definitions.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from tagger.core.types import QualityLimits

if TYPE_CHECKING:  # what was measured is judged without them
    import torch

    from tagger.images.decode import Picture

# Of 3,409 photos of clothing, no side is under 400 pixels, and the plainest has 137 levels between its darkest and brightest.
MAX_SPREAD = 8  # levels of 256; WebP, where it is lossy, makes up to 5 of a single colour
_STEPS = 8  # into which a side is divided, to look at few pixels first
_SAMPLES = 50  # of a side, by which brightness is judged
_WEIGHTS = np.array([0.241, 0.691, 0.068], np.float32)  # of squared red, green and blue in perceived brightness
_LIGHT, _DARK = 0.99, 0.05  # of the pixels, ordered by brightness


def measure(picture: Picture, encoded: torch.Tensor) -> NDArray[np.float32]:
    """Measure a decoded picture, of which an encoder sees uint8 (3, H, W): float32 (MEASURES,).

    Width and height of the whole; levels between the darkest and the brightest value of the channel where they are most, 255
    where a few pixels already show that the picture is not flat; brightness, from 0 to 1, above which a hundredth of the
    pixels lies, and below which a twentieth does; sharpness.
    """
    values = picture.pixels.numpy()  # which is quicker for few values
    height, width = picture.whole
    few = values[:, :: values.shape[1] // _STEPS or 1, :: values.shape[2] // _STEPS or 1]
    spread = 255 if _spread(few) > MAX_SPREAD else _spread(values)
    return np.array([width, height, spread, *_brightness(values), _sharpness(encoded.numpy())], np.float32)


def find_flaws(measures: NDArray[np.float32], limits: QualityLimits) -> dict[int, str]:
    """Say what is wrong with those pictures, float32 (N, MEASURES), that are beyond the limits: by their numbers, from 0."""
    width, height, spread, light, dark, sharpness = measures.T
    shorter, longer = np.minimum(width, height), np.maximum(width, height)
    tests = {
        "{0:.0f} x {1:.0f} pixels": shorter < limits.min_side,
        "one colour all over": spread <= MAX_SPREAD,
        "extreme shape, {0:.0f} x {1:.0f} pixels": shorter < np.float32(limits.min_aspect_ratio) * longer,
        "too dark, brightness {3:.2f}": light < np.float32(limits.min_brightness),
        "washed out, brightness {4:.2f}": dark > np.float32(limits.max_brightness),
        # Last, as a picture with little contrast has faint edges, too.
        "blurred, sharpness {5:.0f}": sharpness < np.float32(limits.min_sharpness),
    }
    flaws = dict[int, str]()
    for text, found in tests.items():
        for number in np.flatnonzero(found).tolist():
            flaws.setdefault(number, text.format(*measures[number].tolist()))
    return flaws


def _spread(values: NDArray[np.uint8]) -> int:
    return int((values.max((1, 2)) - values.min((1, 2))).max())


def _brightness(values: NDArray[np.uint8]) -> tuple[float, float]:
    """Return the brightness of the light and of the dark parts; of every so many pixels, which tell as much as all of them."""
    down, across = (-(-side // _SAMPLES) for side in values.shape[1:])
    few = values[:, ::down, ::across].reshape(3, -1).astype(np.float32)
    squares = _WEIGHTS @ (few * few)
    places = [int(share * (len(squares) - 1)) for share in (_LIGHT, _DARK)]
    light, dark = np.partition(squares, places)[places]
    return float(np.sqrt(light)) / 255, float(np.sqrt(dark)) / 255


def _sharpness(values: NDArray[np.uint8]) -> float:
    """Return the variance of the Laplacian of green, which carries most of what is seen, in levels of 256 (Pech-Pacheco 2000).

    It is taken of every fourth row of what an encoder sees, so that it does not depend on the size of the file.
    """
    above, row, below = (values[1, first:last:4].astype(np.int16) for first, last in ((0, -2), (1, -1), (2, None)))
    if not row[:, 2:].size:
        return 0.0
    laplacian = (above + below - 4 * row)[:, 1:-1] + row[:, :-2] + row[:, 2:]
    return float(laplacian.var(dtype=np.float32))
