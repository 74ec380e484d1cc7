"""The protocol of every encoder: pixels -> embeddings, with a fingerprint of all that they depend on."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Protocol

from tagger.core.types import Preprocessing

if TYPE_CHECKING:  # what is known of an encoder is read without it
    from torch import Tensor


class Encoder(Protocol):
    """An encoder maps pixels to embeddings.

    source: its name in results. device: as torch names it, such as "cuda:0"; device_type: without the number. reads_prompts:
    whether labels are embedded by its text tower, so that what is scored depends on their prompts. weights: SHA-256 of weights
    and preprocessing. fingerprint: SHA-256 of these and of what computes with them.
    """

    preprocessing: Preprocessing
    device: str
    device_type: str
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


class PromptEncoder(Encoder, Protocol):
    """An encoder with a text tower. logit_scale: what cosine similarities are multiplied by."""

    logit_scale: float

    def encode_prompts(self, prompts: Sequence[str]) -> Tensor:
        """Encode P prompts as float32 (P, dimension), L2-normalised. ConfigError for a prompt longer than the model reads."""
        ...


def fingerprint_of(weights: Mapping[str, Tensor], preprocessing: Preprocessing, architecture: str = "") -> str:
    """Return the SHA-256 of all weights, with their names, types and shapes, of the preprocessing, and of what the weights do
    not say of an architecture.
    """
    import torch

    digest = hashlib.sha256(f"{preprocessing}{architecture}".encode())
    for key, weight in sorted(weights.items()):
        digest.update(f"{key} {weight.dtype} {tuple(weight.shape)}".encode())
        digest.update(weight.reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()
