"""A fine-tuned ResNet18 (He et al. 2015) as an encoder: pixels -> the features before its last layer; and that layer."""

from __future__ import annotations

from dataclasses import replace
from typing import NamedTuple

import torch
from safetensors.torch import load_file
from torch import Tensor, nn
from torchvision.models import resnet18

from tagger.core.errors import ModelError
from tagger.core.text import first_line
from tagger.core.types import Preprocessing
from tagger.encoders.base import fingerprint_of
from tagger.encoders.normalise import Normalise
from tagger.encoders.resnet18_checkpoint import ResNet18Description

DIMENSION = 512


class ResNet18Encoder:
    """Encode pixels as the features that the network's last layer gets, in fp32."""

    source, reads_prompts = "resnet18", False
    backend, precision = "torch", "fp32"
    dimension = DIMENSION

    def __init__(self, network: nn.Module, preprocessing: Preprocessing, fingerprint: str, device: torch.device) -> None:
        self.preprocessing, self.device, self.device_type = preprocessing, str(device), device.type
        self.weights = self.fingerprint = fingerprint
        network.fc = nn.Identity()
        self._network = network.eval().requires_grad_(False).to(device)
        if device.type == "cuda":
            self._network.to(memory_format=torch.channels_last)
        self._normalise = Normalise(preprocessing, torch.float32).to(device)

    @torch.inference_mode()
    def encode(self, pixels: Tensor) -> Tensor:
        """Encode uint8 (N, 3, H, W), on any device, as float32 (N, 512) on the encoder's."""
        features: Tensor = self._network(self._normalise(pixels.to(self.device, non_blocking=True)))
        return features


class LoadedResNet18(NamedTuple):
    """Hold an encoder, its last layer (weight float32 (K, 512), bias float32 (K,)), and what its checkpoint says of it."""

    encoder: ResNet18Encoder
    weight: Tensor
    bias: Tensor


def load_resnet18(
    path: str, description: ResNet18Description, device: torch.device, exact_preprocessing: bool = False
) -> LoadedResNet18:
    """Load the checkpoint of `tagger train` that has this description; ModelError where it is damaged or not finite."""
    preprocessing = replace(description.preprocessing, exact=exact_preprocessing)
    try:
        weights = load_file(path)
    except Exception as error:  # a damaged file can raise anything
        raise ModelError(
            f"model {path}: expected a whole safetensors file, found: {first_line(error)}; train it again"
        ) from error
    with torch.device("meta"):
        network = resnet18(num_classes=len(description.labels))
    expected = {key: (weight.shape, weight.dtype) for key, weight in network.state_dict().items()}
    for key, found in {key: (weight.shape, weight.dtype) for key, weight in weights.items()}.items():
        if expected.get(key) != found:
            raise ModelError(f"model {path}: expected the weights of a ResNet18, found {key} {tuple(found[0])}; train it again")
    if missing := sorted(expected.keys() - weights.keys()):
        raise ModelError(f"model {path}: expected the weights of a ResNet18, found no {missing[0]}; train it again")
    if not all(bool(weight.isfinite().all()) for weight in weights.values()):
        raise ModelError(f"model {path}: expected finite weights, found NaN or infinity; train it again")
    fingerprint = fingerprint_of(weights, preprocessing)
    network.load_state_dict(weights, assign=True)
    weight, bias = (weights[f"fc.{part}"].to(device) for part in ("weight", "bias"))
    return LoadedResNet18(ResNet18Encoder(network, preprocessing, fingerprint, device), weight, bias)
