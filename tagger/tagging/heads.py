"""Heads: embeddings -> one logit per label of an attribute."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor


class ZeroShotHead:
    """Score an image against the prompts of every label (Radford et al. 2021, figure 3 and section 3.1.4).

    prompt_embeddings: for each of K labels float32 (P, D), its prompts' L2-normalised embeddings; a label is their mean,
    normalised again. logit_scale: the model's own.
    """

    def __init__(self, prompt_embeddings: Sequence[Tensor], logit_scale: float) -> None:
        self.label_embeddings = F.normalize(torch.stack([prompts.mean(0) for prompts in prompt_embeddings]), dim=1)
        self.logit_scale = logit_scale

    def __call__(self, embeddings: Tensor) -> Tensor:
        """Score embeddings float32 (N, D), L2-normalised, as logits float32 (N, K)."""
        return self.logit_scale * embeddings @ self.label_embeddings.T


class LinearHead:
    """Apply the last layer of a classifier: weight float32 (K, D), bias float32 (K,).

    fingerprint: of the file that it is from, where labelled rows fitted it; None for an encoder's own.
    """

    def __init__(self, weight: Tensor, bias: Tensor, fingerprint: str | None = None) -> None:
        self.weight, self.bias, self.fingerprint = weight, bias, fingerprint

    def __call__(self, embeddings: Tensor) -> Tensor:
        """Score embeddings float32 (N, D) as logits float32 (N, K)."""
        return F.linear(embeddings, self.weight, self.bias)


class KernelHead:
    """Add what nearby labelled rows say to a linear layer: Tip-Adapter (Zhang et al. 2022, equation 6) and ProKeR have this form.

    weight: float32 (K, D), the logit_scale included. bias: float32 (K,). keys: float32 (M, D), the embeddings of M labelled rows.
    values: float32 (M, K), what each adds to the logits of an image just like it. beta: how fast that falls with the distance.
    fingerprint: as that of a LinearHead.
    """

    def __init__(
        self, weight: Tensor, bias: Tensor, keys: Tensor, values: Tensor, beta: float, fingerprint: str | None = None
    ) -> None:
        self.weight, self.bias, self.keys, self.values, self.beta = weight, bias, keys, values, beta
        self.fingerprint = fingerprint

    def __call__(self, embeddings: Tensor) -> Tensor:
        """Score embeddings float32 (N, D), L2-normalised, as logits float32 (N, K)."""
        closeness = torch.exp(self.beta * (embeddings @ self.keys.T - 1))
        return F.linear(embeddings, self.weight, self.bias) + closeness @ self.values
