"""From encoded bytes to uint8 RGB, resized and cropped as each encoder wants it.

Codes: not-an-image (none of the allowed formats), truncated (ends too early), corrupt (any other damage), too-large (more
pixels than Pillow's limit for a decompression bomb, before or after the resize).
"""

from __future__ import annotations

import io
import warnings
from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
import torch
from PIL import Image, UnidentifiedImageError
from torchvision.transforms.v2 import InterpolationMode
from torchvision.transforms.v2 import functional as transforms

from tagger.core.errors import ImageError
from tagger.core.types import FORMATS, Preprocessing
from tagger.images.jpeg import complete, decode_reduced
from tagger.images.orientation import ORIENTATION, turn_upright
from tagger.images.reading import decoded_for
from tagger.images.side_information import strip_side_information

MAX_PIXELS = Image.MAX_IMAGE_PIXELS or 1 << 26

_INTERPOLATION = {
    Image.Resampling.NEAREST: InterpolationMode.NEAREST_EXACT,
    Image.Resampling.BILINEAR: InterpolationMode.BILINEAR,
    Image.Resampling.BICUBIC: InterpolationMode.BICUBIC,
}
# The same kernels, called with scale factors that do not follow from whole pixels.
_RESIZE_PART = {
    Image.Resampling.BILINEAR: torch.ops.aten._upsample_bilinear2d_aa,
    Image.Resampling.BICUBIC: torch.ops.aten._upsample_bicubic2d_aa,
}


def decode(data: bytes, formats: tuple[str, ...] = FORMATS) -> Image.Image:
    """Decode the first frame to RGB, upright (EXIF), transparency on white. Raises ImageError, MemoryError."""
    return _decode(*_prepare(data, formats), formats)


def _prepare(data: bytes, formats: tuple[str, ...]) -> tuple[bytes | bytearray, int | None]:
    """Return what makes the pixels and the orientation, None where only Pillow reads it. Raises MemoryError."""
    pixels, orientation = strip_side_information(data)
    return complete(pixels) if "JPEG" in formats else pixels, orientation


def _decode(data: bytes | bytearray, orientation: int | None, formats: tuple[str, ...]) -> Image.Image:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of odd but readable metadata
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            with Image.open(io.BytesIO(data), formats=formats) as image:
                image.load()
                if orientation is None:
                    orientation = _read_orientation(image)
                return turn_upright(_to_rgb(image), orientation)
    except UnidentifiedImageError as error:
        raise ImageError("not-an-image", f"expected {', '.join(formats)}, found other content") from error
    except (Image.DecompressionBombWarning, Image.DecompressionBombError) as error:
        raise ImageError("too-large", f"more than {MAX_PIXELS:,} pixels") from error
    except MemoryError:
        raise
    # Damaged data makes a decoder raise anything at all; whatever it is, it costs this row only.
    except Exception as error:
        message = " ".join(str(error).split()) or type(error).__name__
        raise ImageError("truncated" if "truncated" in message.lower() else "corrupt", message) from error


def _read_orientation(image: Image.Image) -> int:
    try:
        return int(image.getexif().get(ORIENTATION, 1))
    except Exception:  # noqa: BLE001  # as odd as it may be, the pixels are there
        return 1


def _to_rgb(image: Image.Image) -> Image.Image:
    if image.mode.startswith("I"):  # 16 bits of grey: Pillow's own conversion would clip to the lowest 8
        grey = np.asarray(image).astype(np.int64).clip(0, 65535) >> 8
        image = Image.fromarray(grey.astype(np.uint8))
    if image.has_transparency_data:
        layer = image.convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", layer.size, "white"), layer).convert("RGB")
    return image.convert("RGB")


class Picture(NamedTuple):
    """A decoded image: uint8 (3, H, W), and the picture's height and width, in these pixels and in its own (decode_reduced)."""

    pixels: torch.Tensor
    size: tuple[float, float]
    whole: tuple[int, int]


def read_pixels(data: bytes, formats: tuple[str, ...], wanted: Mapping[str, Preprocessing]) -> dict[str, torch.Tensor]:
    """Decode bytes once and return, by name, uint8 (3, H, W) as each preprocessing wants them. Raises ImageError, MemoryError."""
    return resize(decode_for(data, formats, wanted), wanted)


def decode_for(data: bytes, formats: tuple[str, ...], wanted: Mapping[str, Preprocessing]) -> Picture:
    """Decode bytes once for all these preprocessings. Raises ImageError, MemoryError.

    A JPEG is decoded at less than its size where that is enough (decoded_for), unless a preprocessing is to be exact.
    """
    exact = any(one.exact or one.resample == Image.Resampling.NEAREST for one in wanted.values())
    prepared, orientation = _prepare(data, formats)
    if not exact and "JPEG" in formats:
        reduced = decode_reduced(prepared, orientation or 1, decoded_for(wanted))
        if reduced is not None:
            return Picture(*reduced)
    image = _decode(prepared, orientation, formats)
    size = image.height, image.width
    return Picture(torch.from_numpy(np.array(image)).permute(2, 0, 1), size, size)


def resize(picture: Picture, wanted: Mapping[str, Preprocessing]) -> dict[str, torch.Tensor]:
    """Return, by name, uint8 (3, H, W) as each preprocessing wants them; names that want the same pixels get the same tensor.

    Raises ImageError.
    """
    shared: dict[object, torch.Tensor] = {}
    pixels = {}
    for name, one in wanted.items():
        if (shape := (one.resize, one.crop, one.resample)) not in shared:
            shared[shape] = to_pixels(picture.pixels, picture.size, one)
        pixels[name] = shared[shape]
    return pixels


def to_pixels(original: torch.Tensor, size: tuple[float, float], preprocessing: Preprocessing) -> torch.Tensor:
    """Resize and crop uint8 (3, H, W) as the checkpoint's own image processor does. Raises ImageError.

    size: height and width of the picture in these pixels, which may end within the last of them.
    The arithmetic is that of transformers' torchvision back-end: antialiased interpolation on uint8, sizes cut to whole
    pixels, the crop's corner rounded down.
    """
    height, width = _resized(*size, preprocessing.resize)
    if height * width > MAX_PIXELS:
        raise ImageError("too-large", f"{size[1]:.0f} x {size[0]:.0f} would become {width} x {height} pixels")
    if size == original.shape[1:]:
        mode = _INTERPOLATION[Image.Resampling(preprocessing.resample)]
        pixels: torch.Tensor = transforms.resize(original, [height, width], interpolation=mode, antialias=True)
    else:
        resize = _RESIZE_PART[Image.Resampling(preprocessing.resample)]
        pixels = resize(original[None], [height, width], False, height / size[0], width / size[1])[0]
    if preprocessing.crop is None:
        return pixels
    crop_height, crop_width = preprocessing.crop
    pad_height, pad_width = max(crop_height - height, 0), max(crop_width - width, 0)
    if pad_height or pad_width:
        sides = [pad_width // 2, pad_height // 2, (pad_width + 1) // 2, (pad_height + 1) // 2]
        pixels = transforms.pad(pixels, sides, fill=[0])
        height, width = height + pad_height, width + pad_width
    top, left = (height - crop_height) // 2, (width - crop_width) // 2
    return pixels[:, top : top + crop_height, left : left + crop_width]


def _resized(height: float, width: float, resize: int | tuple[int, int]) -> tuple[int, int]:
    if isinstance(resize, tuple):
        return resize
    if width <= height:
        return int(resize * height / width), resize
    return resize, int(resize * width / height)
