"""Time what brings images to a device: decoding, copying, and resizing there instead of on the CPU."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from gpu_model import per_second
from torch import Tensor

from tagger.core.types import ImageBatch, ImagePolicy, ImageRef, Preprocessing
from tagger.encoders.normalise import Normalise
from tagger.images.decode import decode, to_pixels
from tagger.images.reading import Reading
from tagger.images.resilient_loader import load_images

READ_TOGETHER = 32  # as `tagger run` does
PIECE = 256  # images that are copied, or resized on the device, at once
MODES = {0: "nearest-exact", 2: "bilinear", 3: "bicubic"}  # of Pillow's numbers


def load(manifest: Path, preprocessing: Preprocessing, workers: int, count: int | None = None) -> Iterator[ImageBatch]:
    """Read and decode the catalogue's first `count` images as a run does."""
    files = sorted((manifest.parent / "images").iterdir())[:count]
    refs = [ImageRef(row, f"images/{file.name}") for row, file in enumerate(files)]
    batches = [refs[start : start + READ_TOGETHER] for start in range(0, len(refs), READ_TOGETHER)]
    policy = ImagePolicy(roots=(manifest.parent.resolve(),))
    return load_images(batches, Reading(policy=policy, preprocessings={"clip": preprocessing}, workers=workers))


def decode_alone(manifest: Path, preprocessing: Preprocessing, workers: int, images: int) -> float:
    """Return images per second of the decoding processes, timed once each has handed over what it had prepared."""
    loaded = load(manifest, preprocessing, workers)
    for _ in range(min(2 * workers, -(-images // READ_TOGETHER) // 2)):
        next(loaded)
    began = time.perf_counter()
    count = sum(len(batch.rows) for batch in loaded)
    return count / (time.perf_counter() - began)


def copy_alone(device: torch.device, size: tuple[int, int], page_locked: bool, seconds: float) -> float:
    """Return images per second from the host's memory to the device; the run's own batches are page-locked."""
    pixels = torch.zeros((PIECE, 3, *size), dtype=torch.uint8, pin_memory=page_locked)
    there = torch.empty_like(pixels, device=device)
    return PIECE * per_second(lambda: there.copy_(pixels, non_blocking=page_locked), device, seconds)


def resize_there(images: Tensor, preprocessing: Preprocessing) -> Tensor:
    """Resize and crop uint8 (N, 3, H, W), all on one device, as images/decode.py does with each: uint8 again.

    In float32: torch has no antialiased kernels for uint8 on an accelerator. The CPU's rounds between its two passes, too, so
    values differ by 1, and at hard edges that bicubic interpolation overshoots by more.
    """
    height, width = images.shape[2:]
    side = preprocessing.resize
    if isinstance(side, int):
        height, width = (int(side * height / width), side) if width <= height else (side, int(side * width / height))
    else:
        height, width = side
    mode = MODES[preprocessing.resample]
    resized = F.interpolate(images.float(), (height, width), mode=mode, antialias=preprocessing.resample > 0)
    high, wide = preprocessing.size
    top, left = (height - high) // 2, (width - wide) // 2
    return resized[:, :, top : top + high, left : left + wide].round().clamp(0, 255).to(torch.uint8)


@contextmanager
def one_core() -> Iterator[None]:
    """Let torch compute with one thread, as a decoding process does."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


class RawImages:
    """Whole decoded images of one size, and the seconds that they and their pixels took one core."""

    def __init__(self, manifest: Path, preprocessing: Preprocessing, count: int) -> None:
        data = [file.read_bytes() for file in sorted((manifest.parent / "images").iterdir())[:count]]
        cpu = torch.device("cpu")
        self.preprocessing, self.normalise = preprocessing, Normalise(preprocessing)
        with one_core():
            began = time.perf_counter()
            decoded = [np.array(decode(one)) for one in data]
            self.decoded_per_second = len(data) / (time.perf_counter() - began)
            self.images = torch.stack([torch.from_numpy(one).permute(2, 0, 1) for one in decoded])
            self.resized_per_second = len(data) * per_second(lambda: self.normalise(self.resized()), cpu, 0)

    def resized(self) -> Tensor:
        """Resize them on the CPU as a run does, to uint8 (N, 3, H, W)."""
        return torch.stack([to_pixels(one, tuple(one.shape[1:]), self.preprocessing) for one in self.images])

    def per_second_there(self, device: torch.device, seconds: float) -> float:
        """Return images per second that are copied to the device whole, resized and normalised there."""
        on_cuda = device.type == "cuda"
        images = self.images[:PIECE].contiguous()
        images = images.pin_memory() if on_cuda else images
        normalise = Normalise(self.preprocessing).to(device)

        def call() -> None:
            normalise(resize_there(images.to(device, non_blocking=on_cuda), self.preprocessing))

        return len(images) * per_second(call, device, seconds)

    def resized_there(self, device: torch.device) -> Tensor:
        """Return what the device makes of them, uint8 (N, 3, H, W) on the CPU."""
        return torch.cat([resize_there(piece.to(device), self.preprocessing).cpu() for piece in self.images.split(PIECE)])
