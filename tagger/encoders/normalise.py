"""Pixels -> what a network was trained to see: minus a mean, divided by a standard deviation, per channel."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from tagger.core.types import Preprocessing


class Normalise(nn.Module):
    """Normalise uint8 or float (N, 3, H, W), 0 to 255, to float32: (pixels - mean / rescale) / (std / rescale).

    scaled_in: the type in which mean and std are divided by `rescale`, before they are rounded to float32. CLIP's are divided
    in float64, those of a ResNet18 in float32: the last bit of its training, and so of its results, depends on it.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, preprocessing: Preprocessing, scaled_in: torch.dtype = torch.float64) -> None:
        super().__init__()
        for name, values in (("mean", preprocessing.mean), ("std", preprocessing.std)):
            scaled = torch.tensor(values, dtype=scaled_in) / preprocessing.rescale
            self.register_buffer(name, scaled.float()[:, None, None])

    def forward(self, pixels: Tensor) -> Tensor:
        return (pixels.float() - self.mean) / self.std
