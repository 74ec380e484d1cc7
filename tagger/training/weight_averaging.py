"""Averages of weights: over the steps of a training, and between what a model was and what it has become."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import torch
from torch import Tensor

Weights = dict[str, Tensor]
SHARES = tuple(step / 10 for step in range(11))  # of what was learned, that are tried


class MovingAverage:
    """An exponential moving average of parameters (Polyak and Juditsky 1992; Izmailov et al. 2018), from the first step on.

    Its memory grows with the steps up to `decay`, so that it does not hold on to what a short training began with.
    """

    def __init__(self, parameters: Sequence[Tensor], decay: float) -> None:
        self._decay, self.steps = decay, 0
        self.values = [one.detach().clone() for one in parameters]

    @torch.no_grad()
    def update(self, parameters: Sequence[Tensor]) -> None:
        """Take in the parameters after a step."""
        self.steps += 1
        decay = min(self._decay, self.steps / (self.steps + 10))
        for mean, one in zip(self.values, parameters, strict=True):
            mean.lerp_(one.detach(), 1 - decay)


def blend(original: Mapping[str, Tensor], learned: Mapping[str, Tensor], share: float) -> Weights:
    """Return (1 - share) * original + share * learned, weight by weight (WiSE-FT: Wortsman et al. 2022, equation 1)."""
    return {name: torch.lerp(weight, learned[name], share) for name, weight in original.items()}


def choose_share(
    original: Mapping[str, Tensor], learned: Mapping[str, Tensor], judge: Callable[[Weights], float]
) -> tuple[float, dict[float, float]]:
    """Return the share of what was learned whose blend is judged best, and how each was judged.

    Of equals the one in their middle: neighbours are as good, and the next rows are others.
    """
    judged = {share: judge(blend(original, learned, share)) for share in SHARES}
    best = [share for share in SHARES if judged[share] == max(judged.values())]
    return best[len(best) // 2], judged
