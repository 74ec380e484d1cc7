"""Heads: embeddings -> one logit per label of an attribute.

A run gives them NumPy arrays, so that it decides in one fixed way and needs no torch where nothing is encoded; what fits a head
gives them tensors, whose gradients it follows. Both are written as `Array` here.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = Any  # a float32 NumPy array or torch tensor: they share the operators, but no type


class ZeroShotHead:
    """Score an image against the prompts of every label (Radford et al. 2021, figure 3 and section 3.1.4).

    prompt_embeddings: for each of K labels float32 (P, D), its prompts' L2-normalised embeddings; a label is their mean,
    normalised again. logit_scale: the model's own.
    """

    def __init__(self, prompt_embeddings: Sequence[NDArray[np.float32]], logit_scale: float) -> None:
        self.label_embeddings = normalise(np.stack([prompts.mean(0) for prompts in prompt_embeddings]))
        self.logit_scale = logit_scale

    def __call__(self, embeddings: NDArray[np.float32]) -> NDArray[np.float32]:
        """Score embeddings float32 (N, D), L2-normalised, as logits float32 (N, K)."""
        scaled: NDArray[np.float32] = self.logit_scale * embeddings  # NumPy keeps float32 beside a Python number
        return scaled @ self.label_embeddings.T


class LinearHead:
    """Apply the last layer of a classifier: weight float32 (K, D), bias float32 (K,).

    fingerprint: of the file that it is from, where labelled rows fitted it; None for an encoder's own.
    """

    def __init__(self, weight: Array, bias: Array, fingerprint: str | None = None) -> None:
        self.weight, self.bias, self.fingerprint = weight, bias, fingerprint

    def __call__(self, embeddings: Array) -> Array:
        """Score embeddings float32 (N, D) as logits float32 (N, K)."""
        return embeddings @ self.weight.T + self.bias


class KernelHead:
    """Add what nearby labelled rows say to a linear layer: Tip-Adapter (Zhang et al. 2022, equation 6) and ProKeR have this form.

    weight: float32 (K, D), the logit_scale included. bias: float32 (K,). keys: float32 (M, D), the embeddings of M labelled rows.
    values: float32 (M, K), what each adds to the logits of an image just like it. beta: how fast that falls with the distance.
    fingerprint: as that of a LinearHead.
    """

    def __init__(
        self, weight: Array, bias: Array, keys: Array, values: Array, beta: float, fingerprint: str | None = None
    ) -> None:
        self.weight, self.bias, self.keys, self.values, self.beta = weight, bias, keys, values, beta
        self.fingerprint = fingerprint

    def __call__(self, embeddings: Array) -> Array:
        """Score embeddings float32 (N, D), L2-normalised, as logits float32 (N, K)."""
        nearness = self.beta * (embeddings @ self.keys.T - 1)
        closeness = np.exp(nearness) if isinstance(nearness, np.ndarray) else nearness.exp()
        return embeddings @ self.weight.T + self.bias + closeness @ self.values


def normalise(vectors: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return float32 (N, D) with rows of length 1; zeros stay zeros."""
    lengths = np.sqrt((vectors * vectors).sum(1, keepdims=True))
    scaled: NDArray[np.float32] = vectors / np.maximum(lengths, np.float32(1e-12))
    return scaled


def softmax(logits: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return the probabilities float32 (N, K) of logits float32 (N, K)."""
    powers = np.exp(logits - logits.max(1, keepdims=True))
    probabilities: NDArray[np.float32] = powers / powers.sum(1, keepdims=True)
    return probabilities
