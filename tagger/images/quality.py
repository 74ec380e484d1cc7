"""Why a picture can be none of a product, though it decodes: a spacer, a counting pixel, an empty page."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray

# Of 3,409 photos of clothing, no side is under 400 pixels, and the plainest has 137 levels between its darkest and brightest.
MIN_SIDE = 10  # pixels
MAX_SPREAD = 8  # levels of 256; WebP, where it is lossy, makes up to 5 of a single colour
_STEPS = 8  # into which a side is divided, to look at few pixels first


def find_flaw(pixels: torch.Tensor) -> str:
    """Say what is wrong with a decoded picture, uint8 (3, H, W); "" where nothing is."""
    height, width = pixels.shape[1:]
    if min(height, width) < MIN_SIDE:
        return f"{width} x {height} pixels"
    values = pixels.numpy()  # which is quicker for few values
    few = values[:, :: height // _STEPS, :: width // _STEPS]
    return "one colour all over" if _is_flat(few) and _is_flat(values) else ""


def _is_flat(values: NDArray[np.uint8]) -> bool:
    return int((values.max((1, 2)) - values.min((1, 2))).max()) <= MAX_SPREAD
