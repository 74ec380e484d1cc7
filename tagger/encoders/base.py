"""What every encoder is: pixels to embeddings, with a name for all that they depend on."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Protocol

import torch
from torch import Tensor

from tagger.core.types import Preprocessing


class Encoder(Protocol):
    """Maps pixels to embeddings.

    `weights`: SHA-256 of weights and preprocessing. `fingerprint`: the same, and of what computes with them. `source`: what the
    results name it.
    """

    preprocessing: Preprocessing
    device: torch.device
    dimension: int
    source: str
    backend: str
    precision: str
    weights: str
    fingerprint: str

    def encode(self, pixels: Tensor) -> Tensor:
        """uint8 (N, 3, H, W), on any device -> float32 (N, dimension) on the encoder's."""
        ...


def fingerprint_of(weights: Mapping[str, Tensor], preprocessing: Preprocessing) -> str:
    """SHA-256 of all weights, by name, type and shape, and of the preprocessing."""
    digest = hashlib.sha256(str(preprocessing).encode())
    for key, weight in sorted(weights.items()):
        digest.update(f"{key} {weight.dtype} {tuple(weight.shape)}".encode())
        digest.update(weight.reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()
