"""Devices, back-ends and precisions of the image tower: PyTorch or OpenVINO, fp32, bf16, fp16 or int8."""

from __future__ import annotations

from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import cast

import torch

from tagger.core.errors import ConfigError
from tagger.core.text import first_line
from tagger.encoders.clip import ClipEncoder
from tagger.encoders.clip_tower import ImageTower
from tagger.encoders.openvino import Images, OpenVinoTower, load_int8

DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
PRECISIONS = {"torch": ("auto", "fp32", "bf16", "fp16"), "openvino": ("auto", "fp32", "bf16", "int8")}


def choose_device(name: str | None) -> torch.device:
    """Return the named device, else an accelerator where there is one, else the CPU. ConfigError if it cannot be used."""
    if name is None:
        found = torch.accelerator.current_accelerator(check_available=True)
        return found or torch.device("cpu")
    try:
        device = torch.device(name)
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:
        reason = first_line(error)
        raise ConfigError(f"--device {name}: expected a device of this machine, found: {reason}; try cpu") from error
    return device


def check_backend(backend: str, precision: str, device: torch.device) -> None:
    """Raise ConfigError where these do not go together, or the back-end is not installed."""
    if precision not in PRECISIONS[backend]:
        other = next(name for name, precisions in PRECISIONS.items() if precision in precisions)
        raise ConfigError(
            f"--precision {precision}: expected {', '.join(PRECISIONS[backend])} with --backend {backend}; choose one of them, "
            f"or --backend {other}"
        )
    if backend == "openvino":
        if missing := [name for name in ("openvino", "nncf") if find_spec(name) is None]:
            raise ConfigError(f"--backend openvino: expected {missing[0]}, found none; pip install 'tagger[openvino]'")
        if device.type != "cpu":
            raise ConfigError(f"--backend openvino: expected --device cpu, found {device}; leave one of the two out")


def choose_precision(device: torch.device) -> str:
    """Return PyTorch's fastest precision on this device among those that give nearly the embeddings of fp32."""
    if device.type == "cuda":
        return "fp16"  # as fast as bf16, and more exact: CLIP was trained in it
    if device.type == "cpu" and torch.cpu._is_avx512_bf16_supported():  # other CPUs convert bf16 to fp32 and back
        return "bf16"
    return "fp32"


def in_precision(
    encoder: ClipEncoder,
    backend: str,
    precision: str,
    *,
    at_once: int,
    folder: Path | None,
    images: Images,
    checkpoint: Path | None = None,
) -> ClipEncoder:
    """Return the encoder, given in fp32, with a tower of this back-end and precision.

    at_once: how many images it will be given at once. folder: of the cache, where an int8 model, quantised with `images`, is kept
    unless the `checkpoint`'s own folder has one; None: it is made for this run only.
    """
    if backend == "openvino":
        shape, fp32 = (at_once, 3, *encoder.preprocessing.size), cast(ImageTower, encoder.tower)
        int8 = partial(load_int8, fp32, encoder.fingerprint, shape, images, checkpoint, folder)
        tower = OpenVinoTower(fp32, shape, precision, int8)
        return encoder.with_tower(tower, backend, tower.precision, tower.version)
    if precision == "auto":
        precision = choose_precision(torch.device(encoder.device))
    if precision == "fp32":
        return encoder
    return encoder.with_tower(cast(ImageTower, encoder.tower).in_dtype(DTYPES[precision]), backend, precision)
