"""Logits and true labels -> a temperature."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from scipy import special

# How far a temperature may plausibly be from 1, as the standard deviation of its logarithm. Hundreds of rows outweigh it; from
# a few rows that happen to be all correct, the likelihood alone would make every confidence 1.
PRIOR = 1.0
ITERATIONS = 100


def fit_temperature(logits: NDArray[np.float32], truth: NDArray[np.int64]) -> float:
    """Return the temperature that minimises the negative log-likelihood of float32 (N, K) logits.

    By LBFGS (Guo et al. 2017, section 4.2). truth: int64 (N,), the true labels. The logarithm of the temperature has a normal
    prior of standard deviation PRIOR. Without rows it is 1.
    """
    if not len(logits):
        return 1.0
    scores, target = torch.from_numpy(logits).double(), torch.from_numpy(truth)
    log_temperature = torch.zeros((), dtype=torch.float64, requires_grad=True)
    optimiser = torch.optim.LBFGS([log_temperature], max_iter=ITERATIONS, line_search_fn="strong_wolfe")

    def loss() -> torch.Tensor:
        optimiser.zero_grad()
        value = F.cross_entropy(scores / log_temperature.exp(), target, reduction="sum") + (log_temperature / PRIOR) ** 2 / 2
        value.backward()  # type: ignore[no-untyped-call]  # torch gives it no types
        return value

    optimiser.step(loss)  # type: ignore[no-untyped-call]
    return float(log_temperature.detach().exp())


def softmax(logits: NDArray[np.floating[Any]]) -> NDArray[np.float32]:
    """Return float32 (N, K), whose rows add up to one, computed in float64."""
    return np.asarray(special.softmax(logits.astype(np.float64), axis=1), np.float32)
