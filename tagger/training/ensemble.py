"""The weight with which a model's probabilities are averaged with CLIP's, chosen on validation rows."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from tagger.training.temperature import fit_temperature, softmax

WEIGHTS = np.linspace(0, 1, 21)


def choose_weight(clip: NDArray[np.float32], own: NDArray[np.float32], truth: NDArray[np.int64]) -> tuple[float, float, float]:
    """Weight of `own`, temperature of `clip`, temperature of `own`; both float32 (N, K), logits; truth int64 (N,).

    The weight of the least negative log-likelihood, of equals the lowest; 0 without rows, because nothing speaks for `own`.
    """
    if not len(truth):
        return 0.0, 1.0, 1.0
    temperatures = fit_temperature(clip, truth), fit_temperature(own, truth)
    first, second = (
        softmax(logits / temperature)[np.arange(len(truth)), truth]
        for logits, temperature in zip((clip, own), temperatures, strict=True)
    )
    losses = [-np.log(np.maximum((1 - weight) * first + weight * second, 1e-30)).mean() for weight in WEIGHTS]
    return float(WEIGHTS[int(np.argmin(losses))]), *temperatures
