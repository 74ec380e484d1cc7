"""What encoding an image costs: operations and weights, counted without memory, and a short measurement of the machine.

No weight is read: the models are built of shapes alone. The figures
are estimates: see tests/benchmarks/README.md for how far off they were.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode
from torchvision.models import resnet18
from transformers import CLIPConfig

from tagger.core.errors import ModelError
from tagger.core.text import first_line
from tagger.core.types import Preprocessing
from tagger.encoders.clip_checkpoint import open_checkpoint
from tagger.encoders.clip_files import INDEX, OPEN_CLIP_WEIGHTS, WEIGHTS
from tagger.encoders.clip_model import Clip
from tagger.encoders.clip_preprocessing import CLIP_PREPROCESSING, read_preprocessing
from tagger.encoders.clip_tower import ImageTower
from tagger.encoders.open_clip import OpenClip, OpenClipCheckpoint
from tagger.encoders.resnet18_checkpoint import ResNet18Description
from tagger.encoders.siglip_model import Siglip

RESNET18_PRODUCT = (28 * 28, 9 * 128, 128)  # a convolution of its third stage, as a product
MEASURED_SECONDS = 0.3


@dataclass(frozen=True, kw_only=True)
class Cost:
    """Count what one model costs.

    operations: floating-point operations for one image, two for a multiplication and an addition. product: rows (of one image),
    inner and outer side of the matrix product that most of them are in. prompt_operations: those for one token of a prompt.
    weights, image_weights: how many numbers they are, in all and in the image tower. activations: how many numbers are in memory
    for one image.
    """

    preprocessing: Preprocessing
    operations: float
    product: tuple[int, int, int]
    weights: int
    image_weights: int
    activations: int
    prompt_operations: float = 0.0


def cost_of_clip(name: str, revision: str | None, exact: bool) -> tuple[Cost, bool]:
    """Return a CLIP's cost, and whether it is on this machine: if not, the cost is ViT-B/32's. The hub is not asked.

    ModelError for a folder that is not there, or is no CLIP that may be loaded, as far as it can be seen without loading.
    """
    folder = _find_clip(name, revision)
    try:
        if folder is None:
            with torch.device("meta"):  # the default is ViT-B/32
                return _cost_of_clip(Clip(CLIPConfig()), CLIPConfig(), replace(CLIP_PREPROCESSING, exact=exact)), False
        checkpoint = open_checkpoint(str(folder), None)
        if isinstance(checkpoint, OpenClipCheckpoint):
            return _cost_of_open_clip(checkpoint.shell(), checkpoint, replace(checkpoint.preprocessing, exact=exact)), True
        preprocessing = replace(read_preprocessing(folder, name, checkpoint.kind), exact=exact)
        return _cost_of_clip(checkpoint.shell(), checkpoint.config, preprocessing), True
    except (ModelError, KeyboardInterrupt):
        raise
    except BaseException as error:  # as in clip.py
        raise ModelError(
            f"model {name}: expected a CLIP checkpoint in transformers' format, found: {first_line(error)}; get it again"
        ) from error


def cost_of_resnet18(description: ResNet18Description, exact: bool) -> Cost:
    """Return the cost of a ResNet18 of `tagger train`."""
    preprocessing = replace(description.preprocessing, exact=exact)
    height, width = preprocessing.size
    with torch.device("meta"):
        network = resnet18(num_classes=len(description.labels)).eval()
        pixels = torch.empty((1, 3, height, width))
    weights = _count_weights(network)
    return Cost(
        preprocessing=preprocessing,
        operations=_count_operations(lambda: network(pixels)),
        product=RESNET18_PRODUCT,
        weights=weights,
        image_weights=weights,
        activations=2 * 64 * height * width // 4,  # what goes into its first normalisation, at half the size, and comes out
    )


def _find_clip(name: str, revision: str | None) -> Path | None:
    """Return the folder of a model, a hub id's in the local cache; None if it is not there. ModelError for a wrong path."""
    if Path(name).is_dir():
        return Path(name)
    if name.startswith((".", "/", "~")):
        raise ModelError(f"model {name}: expected a folder with a CLIP checkpoint, found none; correct --model or [model] name")
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HFValidationError, LocalEntryNotFoundError

    try:
        folder = Path(snapshot_download(name, revision=revision, local_files_only=True))
    except HFValidationError as error:
        raise ModelError(
            f"model {name}: expected a folder or the name of a model on the hub, found neither; correct it"
        ) from error
    except LocalEntryNotFoundError:
        return None
    # The weights of older models may be in the snapshot of a pull request (clip_checkpoint.py).
    snapshots = (folder, *sorted(folder.parent.iterdir()))
    return next((one for one in snapshots if any((one / file).exists() for file in (WEIGHTS, INDEX, OPEN_CLIP_WEIGHTS))), None)


def _cost_of_clip(model: Clip | Siglip, config: Any, preprocessing: Preprocessing) -> Cost:
    """Return the cost of a model whose weights are shapes alone."""
    vision = config.vision_config
    tokens = (vision.image_size // vision.patch_size) ** 2 + isinstance(model, Clip)
    if isinstance(model, Clip) and model.vision_model.prompts is not None:
        tokens += len(model.vision_model.prompts)
    model.eval().requires_grad_(False)  # gradients' hooks, which the counter uses, know nothing of inference mode
    with torch.device("meta"):  # shapes without memory
        pixels = torch.empty((1, 3, *preprocessing.size), dtype=torch.uint8)
        token = torch.empty((1, 1, config.text_config.hidden_size))
        tower = ImageTower(model.vision_model, model.visual_projection, preprocessing, torch.float32)
    return Cost(
        preprocessing=preprocessing,
        operations=_count_operations(lambda: tower(pixels)),
        product=(tokens, vision.hidden_size, vision.intermediate_size),
        weights=_count_weights(model),
        image_weights=_count_weights(model.vision_model),
        activations=tokens * (6 * vision.hidden_size + 2 * vision.intermediate_size),
        prompt_operations=_count_operations(lambda: model.text_model.encoder(token, 1)),
    )


def _cost_of_open_clip(model: OpenClip, checkpoint: OpenClipCheckpoint, preprocessing: Preprocessing) -> Cost:
    """Return the cost of a model of any architecture: its largest product says what most of the work is like."""
    model.eval().requires_grad_(False)
    with torch.device("meta"):
        pixels = torch.empty((1, 3, *preprocessing.size), dtype=torch.uint8)
        ids = torch.zeros((1, checkpoint.longest), dtype=torch.int64)
        tower = ImageTower(model.vision_model, model.visual_projection, preprocessing, torch.float32)
    operations, image_weights = _count_operations(lambda: tower(pixels)), _count_weights(model.vision_model)
    layers = [one for one in model.vision_model.modules() if isinstance(one, nn.Linear | nn.Conv2d)]
    outer, inner = max((one.weight.flatten(1).shape for one in layers), key=math.prod)
    rows = max(round(operations / 2 / image_weights), 1)
    return Cost(
        preprocessing=preprocessing,
        operations=operations,
        product=(rows, inner, outer),
        weights=_count_weights(model),
        image_weights=image_weights,
        activations=rows * (6 * inner + 2 * outer),
        prompt_operations=_count_operations(lambda: model.model.encode_text(ids)) / checkpoint.longest,
    )


def _count_operations(forward: Callable[[], object]) -> float:
    """Return the floating-point operations of a forward pass on meta tensors, where attention too is made of products."""
    with torch.inference_mode(), FlopCounterMode(display=False) as counter:
        forward()
    return float(counter.get_total_flops())


def _count_weights(module: nn.Module) -> int:
    return sum(weight.numel() for weight in module.parameters())


@torch.inference_mode()
def measure_speed(cost: Cost, at_once: int, device: torch.device, dtype: torch.dtype) -> float:
    """Measure how many floating-point operations a second this device does now, in the product that an image tower consists of.

    at_once: images that are encoded at once.
    """
    rows, inner, outer = cost.product
    left = torch.randn(at_once * rows, inner, device=device).to(dtype)
    right = torch.randn(inner, outer, device=device).to(dtype)
    (left @ right).sum().item()  # the first one is slow; the sum waits for it
    began, times = time.perf_counter(), 0
    while (seconds := time.perf_counter() - began) < MEASURED_SECONDS:
        for _ in range(4):
            product = left @ right
        product[0, 0].item()
        times += 4
    return 2.0 * at_once * rows * inner * outer * times / seconds
