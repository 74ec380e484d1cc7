"""What the image tower computes with: PyTorch or OpenVINO, and how precisely."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from typing import cast

import torch

from tagger.core.errors import ConfigError
from tagger.encoders.clip import ClipEncoder
from tagger.encoders.clip_tower import ImageTower
from tagger.encoders.openvino import Images, OpenVinoTower

DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
OF_BACKEND = {"torch": ("auto", "fp32", "bf16", "fp16"), "openvino": ("auto", "fp32", "bf16", "int8")}


def check(backend: str, precision: str, device: torch.device) -> None:
    """ConfigError where these do not go together, or the back-end is not installed."""
    if precision not in OF_BACKEND[backend]:
        other = next(name for name, precisions in OF_BACKEND.items() if precision in precisions)
        raise ConfigError(
            f"--precision {precision}: expected {', '.join(OF_BACKEND[backend])} with --backend {backend}; choose one of them, "
            f"or --backend {other}"
        )
    if backend == "openvino":
        if missing := [name for name in ("openvino", "nncf") if find_spec(name) is None]:
            raise ConfigError(f"--backend openvino: expected {missing[0]}, found none; pip install 'tagger[openvino]'")
        if device.type != "cpu":
            raise ConfigError(f"--backend openvino: expected --device cpu, found {device}; leave one of the two out")


def choose(device: torch.device) -> str:
    """The fastest precision of PyTorch on this device, of which nearly the same embeddings can be expected."""
    if device.type == "cuda":
        return "fp16"  # as fast as bf16, and finer: CLIP was trained in it
    if device.type == "cpu" and torch.cpu._is_avx512_bf16_supported():  # others compute in bf16 by way of fp32
        return "bf16"
    return "fp32"


def in_precision(
    encoder: ClipEncoder, backend: str, precision: str, *, at_once: int, folder: Path | None, images: Images
) -> ClipEncoder:
    """The encoder, of fp32, with a tower of this back-end and precision.

    at_once: images that it will be given at once. folder: where an int8 model is kept, made with `images`; None for
    this run only.
    """
    if backend == "openvino":
        shape = (at_once, 3, *encoder.preprocessing.size)
        tower = OpenVinoTower(cast(ImageTower, encoder.tower), encoder.fingerprint, shape, precision, folder, images)
        return encoder.with_tower(tower, backend, tower.precision, tower.version)
    if precision == "auto":
        precision = choose(encoder.device)
    if precision == "fp32":
        return encoder
    return encoder.with_tower(cast(ImageTower, encoder.tower).in_dtype(DTYPES[precision]), backend, precision)
