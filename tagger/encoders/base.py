"""The protocol of every encoder: pixels -> embeddings, with a fingerprint of all that they depend on."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Protocol

import torch
from torch import Tensor

from tagger.core.types import Preprocessing


class Encoder(Protocol):
    """An encoder maps pixels to embeddings.

    source: its name in results. reads_prompts: whether labels are embedded by its text tower, so that what is scored depends on
    their prompts. weights: SHA-256 of weights and preprocessing. fingerprint: SHA-256 of these and of what computes with them.
    """

    preprocessing: Preprocessing
    device: torch.device
    dimension: int
    source: str
    reads_prompts: bool
    backend: str
    precision: str
    weights: str
    fingerprint: str

    def encode(self, pixels: Tensor) -> Tensor:
        """Encode uint8 (N, 3, H, W), on any device, as float32 (N, dimension) on the encoder's."""
        ...


def fingerprint_of(weights: Mapping[str, Tensor], preprocessing: Preprocessing) -> str:
    """Return the SHA-256 of all weights, with their names, types and shapes, and of the preprocessing."""
    digest = hashlib.sha256(str(preprocessing).encode())
    for key, weight in sorted(weights.items()):
        digest.update(f"{key} {weight.dtype} {tuple(weight.shape)}".encode())
        digest.update(weight.reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()
