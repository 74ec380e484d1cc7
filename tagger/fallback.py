"""CLIP and a fine-tuned ResNet18 together, or the one for the other: which rows the second has to see, and who decides."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from tagger.config import FallbackSettings, ModelSettings, Settings
from tagger.encoders.trained import read_trained
from tagger.errors import ConfigError, ModelError
from tagger.learned import fallback_attribute
from tagger.predictor import Embeddings, Predictor, Probabilities, load_predictor, load_trained
from tagger.tagging.calibration import Calibration, temperature_of
from tagger.tagging.decisions import average, decide, more_confident
from tagger.tagging.taxonomy import prompts_hash
from tagger.types import Decision, Preprocessing

log = logging.getLogger(__name__)

HYBRID = "hybrid"  # the source of averaged probabilities


class Fallback:
    """The rule that joins two predictors on one attribute, number `index` of the first one's.

    below: rows whose confidence is under it are shown to the second predictor, which decides where it is the more confident;
    None: all are, and the probabilities are averaged, the second's with `weight`, at `temperature`.
    """

    def __init__(
        self, first: Predictor, second: Predictor, index: int, below: float | None, weight: float = 0.5, temperature: float = 1.0
    ) -> None:
        self.first, self.second, self._index = first, second, index
        self._below, self._weight, self._temperature = below, weight, temperature

    @property
    def identity(self) -> str:
        """All that its decisions depend on, beside the first predictor's."""
        rule = (self._index, self._below, self._weight, self._temperature, self.first.temperatures, self.second.temperatures)
        return f"{self.second.encoder.fingerprint} {rule}"

    def with_first(self, first: Predictor) -> Fallback:
        """The same rule behind another predictor of the same decisions."""
        return Fallback(first, self.second, self._index, self._below, self._weight, self._temperature)

    def wanted(self, embeddings: Embeddings) -> NDArray[np.bool_]:
        """bool (N,): the images, by the first encoder's embeddings (N, D), whose second embedding is needed."""
        if self._below is None:
            return np.ones(len(embeddings), np.bool_)
        unsure: NDArray[np.bool_] = self.first.probabilities(embeddings)[self._index].max(1) < self._below
        return unsure

    def decide(self, embeddings: Embeddings, seconds: Embeddings, shown: NDArray[np.bool_]) -> list[Decision]:
        """One Decision an attribute. seconds: the second encoder's embeddings of those images that it was shown, in order."""
        probabilities = self.first.probabilities(embeddings)
        sources = [np.full(len(embeddings), self.first.encoder.source, "<U8") for _ in probabilities]
        [of_second] = self.second.probabilities(seconds)
        probabilities[self._index], sources[self._index] = self.join(probabilities[self._index], of_second, shown)
        return [decide(*parts) for parts in zip(probabilities, self.first.attributes, sources, strict=True)]

    def join(
        self, first: Probabilities, second: Probabilities, shown: NDArray[np.bool_]
    ) -> tuple[Probabilities, NDArray[np.str_]]:
        """The attribute's probabilities, float32 (N, K), and who decided. second: float32 (M, K), of the M that were shown."""
        joined, sources = first.copy(), np.full(len(first), self.first.encoder.source, "<U8")
        if self._below is None:
            joined[shown] = average(first[shown], second, self._weight, self._temperature)
            sources[shown] = HYBRID
            return joined, sources
        better = more_confident(first[shown], second)
        rows = np.flatnonzero(shown)[better]
        joined[rows], sources[rows] = second[better], self.second.encoder.source
        return joined, sources


def load_system(
    settings: Settings,
    device: str | None,
    calibrations: Mapping[str, Calibration],
    folder: Path | None,
    draw: Callable[[Preprocessing], Iterator[Tensor]],
) -> tuple[Predictor, Fallback | None]:
    """What the settings ask for: a predictor, and the fallback behind it. ModelError, ConfigError; see load_predictor.

    Where CLIP cannot be had and the fallback is to take its place, that is said, and the predictor is the fallback's.
    """
    attributes, fallback = settings.attributes, settings.fallback
    if fallback is None:
        return load_predictor(settings.model, device, attributes, folder, draw, calibrations), None
    averaged = attributes[fallback_attribute(fallback, attributes)].name if fallback.mode == "ensemble" else None
    of_clip = {name: calibration for name, calibration in calibrations.items() if name != averaged}
    try:
        first = load_predictor(settings.model, device, attributes, folder, draw, of_clip)
    except ModelError as error:
        if not fallback.on_model_error:
            raise
        log.warning("%s", error)
        log.warning(
            "WITHOUT CLIP: all rows are decided by %s alone ([fallback] on_model_error); correct the model before the next run",
            fallback.checkpoint,
        )
        return load_trained(_alone(fallback, settings.model), device, attributes, calibrations), None
    joined = load_fallback(fallback, settings.model, first, device, calibrations)
    return joined.first, joined


def load_fallback(
    settings: FallbackSettings,
    model: ModelSettings,
    first: Predictor,
    device: str | None,
    calibrations: Mapping[str, Calibration],
) -> Fallback:
    """Load the checkpoint behind a predictor that is loaded. ModelError, ConfigError."""
    index, trained = fallback_attribute(settings, first.attributes), read_trained(settings.checkpoint)
    attribute = first.attributes[index]
    model = _alone(settings, model)
    if settings.mode == "low-confidence":
        return Fallback(first, load_trained(model, device, [attribute], calibrations), index, settings.below)
    second = load_trained(model, device, [attribute])
    ensemble, weights = trained.ensemble, first.encoder.weights
    if ensemble is None or (ensemble.clip, ensemble.prompts) != (weights, prompts_hash(attribute)):
        found = "no weight" if ensemble is None else "a weight for another CLIP or other prompts"
        raise ConfigError(
            f"fallback {settings.checkpoint}: expected a checkpoint whose weight beside this CLIP was chosen, found {found}; "
            "train it with --ensemble and these settings"
        )
    temperatures = list(first.temperatures)
    temperatures[index] = ensemble.clip_temperature
    mixed = temperature_of(
        calibrations.get(attribute.name), HYBRID, hybrid_weights(weights, second.encoder.weights), ensemble.prompts
    )
    return Fallback(
        first.with_temperatures(temperatures),
        second.with_temperatures([ensemble.temperature]),
        index,
        None,
        ensemble.weight,
        mixed,
    )


def hybrid_weights(clip: str, second: str) -> str:
    """The name of both weights together."""
    return f"{clip} {second}"


def _alone(settings: FallbackSettings, model: ModelSettings) -> ModelSettings:
    """The checkpoint as a model of its own, with CLIP's settings as far as they concern it."""
    precision = "fp32" if model.precision == "fp32" else "auto"
    return model.model_copy(update={"name": settings.checkpoint, "backend": "torch", "precision": precision})
