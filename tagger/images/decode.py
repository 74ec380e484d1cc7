"""From encoded bytes to uint8 RGB, resized and cropped as the encoder wants it.

Codes: not-an-image (none of the allowed formats), truncated (ends too early), corrupt (any other damage), too-large (more
pixels than Pillow's limit for a decompression bomb, before or after the resize).
"""

from __future__ import annotations

import io
import warnings

import numpy as np
import torch
from PIL import Image, ImageOps, UnidentifiedImageError
from torchvision.transforms.v2 import InterpolationMode
from torchvision.transforms.v2 import functional as transforms

from tagger.errors import ImageError
from tagger.types import FORMATS, Preprocessing

MAX_PIXELS = Image.MAX_IMAGE_PIXELS or 1 << 26

_INTERPOLATION = {
    Image.Resampling.NEAREST: InterpolationMode.NEAREST_EXACT,
    Image.Resampling.BILINEAR: InterpolationMode.BILINEAR,
    Image.Resampling.BICUBIC: InterpolationMode.BICUBIC,
}


def decode(data: bytes, formats: tuple[str, ...] = FORMATS) -> Image.Image:
    """Decode the first frame to RGB, upright (EXIF), transparency on white. Raises ImageError, MemoryError."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of odd but readable metadata
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            with Image.open(io.BytesIO(data), formats=formats) as image:
                image.load()
                ImageOps.exif_transpose(image, in_place=True)
                return _to_rgb(image)
    except UnidentifiedImageError as error:
        raise ImageError("not-an-image", f"expected {', '.join(formats)}, found other content") from error
    except (Image.DecompressionBombWarning, Image.DecompressionBombError) as error:
        raise ImageError("too-large", f"more than {MAX_PIXELS:,} pixels") from error
    except MemoryError:
        raise
    # A decoder fed with damaged data raises anything at all; whatever it is, it costs this row only.
    except Exception as error:
        message = " ".join(str(error).split()) or type(error).__name__
        raise ImageError("truncated" if "truncated" in message.lower() else "corrupt", message) from error


def _to_rgb(image: Image.Image) -> Image.Image:
    if image.mode.startswith("I"):  # 16 bits of grey: Pillow's own conversion would clip to the lowest 8
        grey = np.asarray(image).astype(np.int64).clip(0, 65535) >> 8
        image = Image.fromarray(grey.astype(np.uint8))
    if image.has_transparency_data:
        layer = image.convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", layer.size, "white"), layer).convert("RGB")
    return image.convert("RGB")


def to_pixels(image: Image.Image, preprocessing: Preprocessing) -> torch.Tensor:
    """Resize and crop as the checkpoint's own image processor does: uint8 (3, H, W). Raises ImageError.

    The arithmetic is that of transformers' torchvision back-end: antialiased interpolation on uint8, sizes cut to whole
    pixels, the crop's corner rounded down.
    """
    original = torch.from_numpy(np.array(image)).permute(2, 0, 1).contiguous()
    height, width = _resized(image.height, image.width, preprocessing.resize)
    if height * width > MAX_PIXELS:
        raise ImageError("too-large", f"{image.width} x {image.height} would become {width} x {height} pixels")
    mode = _INTERPOLATION[Image.Resampling(preprocessing.resample)]
    pixels: torch.Tensor = transforms.resize(original, [height, width], interpolation=mode, antialias=True)
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


def _resized(height: int, width: int, resize: int | tuple[int, int]) -> tuple[int, int]:
    if isinstance(resize, tuple):
        return resize
    if width <= height:
        return int(resize * height / width), resize
    return resize, int(resize * width / height)
