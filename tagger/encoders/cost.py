"""What encoding an image costs: operations and weights, told from a configuration, and a short measurement of the machine.

No weight is read. The figures are estimates: see tests/benchmarks/README.md for how far off they were.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from transformers import CLIPConfig, CLIPImageProcessor, CLIPModel, CLIPTextConfig, CLIPVisionConfig

from tagger.core.errors import ModelError
from tagger.core.text import first_line
from tagger.core.types import Preprocessing
from tagger.encoders.clip import read_preprocessing
from tagger.encoders.clip_checkpoint import open_checkpoint
from tagger.encoders.clip_files import INDEX, WEIGHTS
from tagger.encoders.resnet18_checkpoint import read_trained

RESNET18_OPERATIONS = 3.6e9  # of an image of 224 x 224: 1.8e9 multiplications and additions (He et al. 2015, table 1)
RESNET18_WEIGHTS = 11_689_512
RESNET18_PRODUCT = (28 * 28, 9 * 128, 128)  # the third of its stages, a convolution as a product
MEASURED_SECONDS = 0.3


@dataclass(frozen=True, kw_only=True)
class Cost:
    """What one model costs.

    operations: floating-point, for one image. product: rows (of one image), inner and outer side of the matrix product that most
    of them are in. prompt_operations: for one token of a prompt. weights, image_weights: numbers, in all and of the image tower.
    activations: numbers that are in memory for one image.
    """

    preprocessing: Preprocessing
    operations: float
    product: tuple[int, int, int]
    weights: int
    image_weights: int
    activations: int
    prompt_operations: float = 0.0


def cost_of_clip(name: str, revision: str | None, exact: bool) -> tuple[Cost, bool]:
    """A CLIP's cost, and whether it is on this machine: if not, it is ViT-B/32's. Nothing is asked of the hub.

    ModelError for a folder that is not there, or is no CLIP that may be loaded, as far as it can be seen without loading.
    """
    folder = _find(name, revision)
    try:
        config = CLIPConfig() if folder is None else open_checkpoint(str(folder), None).config  # the default is ViT-B/32
        processor = CLIPImageProcessor() if folder is None else CLIPImageProcessor.from_pretrained(folder, local_files_only=True)
    except (ModelError, KeyboardInterrupt):
        raise
    except BaseException as error:  # as in clip.py
        found = first_line(error)
        raise ModelError(
            f"model {name}: expected a CLIP checkpoint in transformers' format, found: {found}; get it again"
        ) from error
    return _cost(config, replace(read_preprocessing(processor, name), exact=exact)), folder is not None


def cost_of_trained(name: str, exact: bool) -> Cost:
    """The cost of a checkpoint of `tagger train`. ModelError."""
    preprocessing = replace(read_trained(name).preprocessing, exact=exact)
    height, width = preprocessing.size
    scale = height * width / 224**2
    return Cost(
        preprocessing=preprocessing,
        operations=RESNET18_OPERATIONS * scale,
        product=RESNET18_PRODUCT,
        weights=RESNET18_WEIGHTS,
        image_weights=RESNET18_WEIGHTS,
        activations=int(2 * 64 * 112 * 112 * scale),
    )


def _find(name: str, revision: str | None) -> Path | None:
    """The folder of a model, a hub id's in the local cache; None if it is not there. ModelError for a path that leads nowhere."""
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
    # The weights of older models may be in the snapshot of a pull request (checkpoint.py).
    snapshots = (folder, *sorted(folder.parent.iterdir()))
    return next((one for one in snapshots if (one / WEIGHTS).exists() or (one / INDEX).exists()), None)


def _cost(config: CLIPConfig, preprocessing: Preprocessing) -> Cost:
    vision, text = config.vision_config, config.text_config
    patches = (vision.image_size // vision.patch_size) ** 2
    tokens, patch = patches + 1, vision.num_channels * vision.patch_size**2
    with torch.device("meta"):  # shapes without memory
        model = CLIPModel(config)
    ends = 2 * vision.hidden_size * (patches * patch + config.projection_dim)
    spared = (tokens - 1) * 2 * vision.hidden_size * (vision.hidden_size + 2 * vision.intermediate_size)  # see tower.py
    return Cost(
        preprocessing=preprocessing,
        operations=tower_operations(vision, tokens) + ends - spared,
        product=(tokens, vision.hidden_size, vision.intermediate_size),
        weights=sum(weight.numel() for weight in model.parameters()),
        image_weights=sum(weight.numel() for weight in model.vision_model.parameters()),
        activations=tokens * (6 * vision.hidden_size + 2 * vision.intermediate_size),
        prompt_operations=tower_operations(text, 1),
    )


def tower_operations(config: CLIPTextConfig | CLIPVisionConfig, tokens: int) -> float:
    """Floating-point operations of a transformer's layers on one sequence.

    A token is multiplied with every weight of the layer's matrices, two operations each: 4 d² weights around attention, 2 d f
    of the feed-forward part; attention itself is two products with all n tokens, 4 n d (Kaplan et al. 2020, table 1, where
    the second of them is left out).
    """
    d, f = config.hidden_size, config.intermediate_size
    return float(config.num_hidden_layers * tokens * (8 * d * d + 4 * d * f + 4 * tokens * d))


@torch.inference_mode()
def measure_speed(cost: Cost, at_once: int, device: torch.device, dtype: torch.dtype) -> float:
    """Floating-point operations a second of the matrix product that an image tower consists of, on this device, as of now."""
    rows, inner, outer = cost.product
    left = torch.randn(at_once * rows, inner, device=device).to(dtype)
    right = torch.randn(inner, outer, device=device).to(dtype)
    (left @ right).sum().item()  # the first one is slow, and the sum waits for it
    began, times = time.perf_counter(), 0
    while (seconds := time.perf_counter() - began) < MEASURED_SECONDS:
        for _ in range(4):
            product = left @ right
        product[0, 0].item()
        times += 4
    return 2.0 * at_once * rows * inner * outer * times / seconds
