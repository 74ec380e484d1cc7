"""CLIP and a fine-tuned ResNet18 together, or the one for the other: which rows the second has to see, and who decides."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from tagger.core.types import Decision
from tagger.inference.predictor import Embeddings, Predictor, Probabilities
from tagger.tagging.decisions import average, more_confident

HYBRID = "hybrid"  # the source of averaged probabilities


class Hybrid:
    """The rule that joins two predictors on one attribute, number `index` of the first one's.

    below: rows whose confidence is under it are shown to the second predictor, which decides where it is the more confident;
    None: all are, and the probabilities are averaged, the second's with `weight`, at `temperature`.
    """

    def __init__(
        self,
        first: Predictor,
        second: Predictor,
        index: int,
        *,
        below: float | None = None,
        weight: float = 0.5,
        temperature: float = 1.0,
    ) -> None:
        self.first, self.second, self._index = first, second, index
        self._below, self._weight, self._temperature = below, weight, temperature

    @property
    def identity(self) -> str:
        """Name all that the decisions depend on beside the first predictor's weights, as one text."""
        rule = (self._index, self._below, self._weight, self._temperature, self.first.temperatures, self.second.temperatures)
        return f"{self.second.encoder.fingerprint} {rule}"

    def with_first(self, first: Predictor) -> Hybrid:
        """Return the same rule behind another predictor of the same decisions."""
        return Hybrid(first, self.second, self._index, below=self._below, weight=self._weight, temperature=self._temperature)

    def wanted(self, embeddings: Embeddings) -> NDArray[np.bool_]:
        """Return bool (N,): the images, by the first encoder's embeddings (N, D), whose second embedding is needed."""
        if self._below is None:
            return np.ones(len(embeddings), np.bool_)
        unsure: NDArray[np.bool_] = self.first.probabilities(embeddings)[self._index].max(1) < self._below
        return unsure

    def decide(self, embeddings: Embeddings, seconds: Embeddings, shown: NDArray[np.bool_]) -> list[Decision]:
        """Return one Decision an attribute.

        seconds: the second encoder's embeddings of those images that are `wanted`, which `shown` marks, in order.
        """
        probabilities = self.first.probabilities(embeddings)
        sources = [np.full(len(embeddings), one.source) for one in self.first.identities]
        [of_second] = self.second.probabilities(seconds)
        probabilities[self._index], sources[self._index] = self.join(probabilities[self._index], of_second, shown)
        return self.first.decide_by(embeddings, probabilities, sources)

    def join(
        self, first: Probabilities, second: Probabilities, shown: NDArray[np.bool_]
    ) -> tuple[Probabilities, NDArray[np.str_]]:
        """Return the attribute's probabilities, float32 (N, K), and who decided. second: (M, K), of the M that were shown."""
        joined, source = first.copy(), self.first.identities[self._index].source
        if self._below is None:
            joined[shown] = average(first[shown], second, self._weight, self._temperature)
            return joined, np.where(shown, HYBRID, source)
        decided = shown.copy()
        decided[shown] = better = more_confident(first[shown], second)
        joined[decided] = second[better]
        return joined, np.where(decided, self.second.encoder.source, source)


def hybrid_weights(clip: str, second: str) -> str:
    """Return the name of both weights together."""
    return f"{clip} {second}"
