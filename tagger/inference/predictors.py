"""Settings -> predictors: encoders loaded, with the heads of their attributes."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
import torch
from torch import Tensor

from tagger.core.errors import ConfigError, ModelError
from tagger.core.text import first_line
from tagger.core.types import Preprocessing
from tagger.encoders.backends import check_backend, in_precision
from tagger.encoders.clip import ClipEncoder, load_clip
from tagger.encoders.resnet18 import load_resnet18
from tagger.encoders.resnet18_checkpoint import ResNet18Description, read_description
from tagger.inference.artifacts import Artifacts
from tagger.inference.hybrid import HYBRID, Hybrid, hybrid_weights
from tagger.inference.job import Job
from tagger.inference.predictor import Head, Predictor, identity_of
from tagger.settings.attributes import Attribute, order_of, prompts_hash
from tagger.settings.schema import FallbackSettings, ModelSettings
from tagger.tagging.calibration import Calibration, temperature_of
from tagger.tagging.head_file import HeadFile
from tagger.tagging.heads import LinearHead, ZeroShotHead

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Loaded:
    """predictor: what decides, alone or with the hybrid's other part. reference: the same in fp32, where the predictor's
    precision was not asked for by name and ought to be tried first. hybrid: the rule behind the predictor, with a fallback.
    """

    predictor: Predictor
    reference: Predictor | None = None
    hybrid: Hybrid | None = None


def choose_device(name: str | None) -> torch.device:
    """Return the named device, else an accelerator where there is one, else the CPU. ConfigError if it cannot be used."""
    if name is None:
        found = torch.accelerator.current_accelerator(check_available=True)
        return found or torch.device("cpu")
    try:
        device = torch.device(name)
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:
        reason = first_line(error)
        raise ConfigError(f"--device {name}: expected a device of this machine, found: {reason}; try cpu") from error
    return device


def zero_shot(
    encoder: ClipEncoder,
    attributes: Sequence[Attribute],
    dtype: type[np.floating[Any]] = np.float16,
    calibrations: Mapping[str, Calibration] = MappingProxyType({}),
    heads: Mapping[str, HeadFile] = MappingProxyType({}),
) -> Predictor:
    """Join CLIP with each attribute's fitted head, else with its prompts, which are encoded here, once. ConfigError."""
    chosen: list[Head] = []
    for attribute in attributes:
        if (head := heads.get(attribute.name)) is not None:
            head.check_encoder(encoder.weights)
            chosen.append(head.head(encoder.device))
        else:
            prompts = [encoder.encode_prompts(attribute.prompts(label)) for label in attribute.labels]
            chosen.append(ZeroShotHead(prompts, encoder.logit_scale))
    predictor = Predictor(encoder, attributes, chosen, dtype=dtype)
    pairs = zip(attributes, predictor.identities, strict=True)
    return predictor.with_temperatures([temperature_of(calibrations.get(one.name), *identity) for one, identity in pairs])


def load_predictor(
    model: ModelSettings,
    device: str | None,
    attributes: Sequence[Attribute],
    folder: Path | None = None,
    draw: Callable[[Preprocessing], Iterator[Tensor]] = lambda _: iter(()),
    calibrations: Mapping[str, Calibration] = MappingProxyType({}),
    artifacts: Artifacts = Artifacts(),  # noqa: B008  # frozen
) -> Loaded:
    """Load the encoder and encode the prompts. ModelError, ConfigError.

    folder: where a quantised model is kept, None for this run only. draw: images to quantise it with, uint8 (B, 3, H, W).
    calibrations: by attribute. artifacts: the heads, and the description of a model that is a ResNet18, if it has been read.
    """
    if model.is_resnet18:
        description = artifacts.model or read_description(model.name)
        return Loaded(load_resnet18_predictor(model, description, device, attributes, calibrations))
    chosen = choose_device("cpu" if device is None and model.backend == "openvino" else device)
    check_backend(model.backend, model.precision, chosen)
    encoder = load_clip(model.name, model.revision, chosen, model.exact_preprocessing)
    dtype = np.float32 if model.precision == "fp32" else np.float16
    predictor = zero_shot(encoder, attributes, dtype, calibrations, artifacts.heads)
    wanted = in_precision(
        encoder,
        model.backend,
        model.precision,
        at_once=predictor.at_once,
        folder=folder,
        images=lambda: draw(encoder.preprocessing),
    )
    to_try = model.precision == "auto" and wanted.precision != "fp32"
    return Loaded(predictor.with_encoder(wanted), predictor if to_try else None)


def load_resnet18_predictor(
    model: ModelSettings,
    description: ResNet18Description,
    device: str | None,
    attributes: Sequence[Attribute],
    calibrations: Mapping[str, Calibration] = MappingProxyType({}),
) -> Predictor:
    """Load a ResNet18 for the one attribute that it was trained for. ModelError, ConfigError."""
    if model.backend != "torch" or model.precision not in ("auto", "fp32"):
        raise ConfigError(
            f"model {model.name}: expected backend torch and precision auto or fp32 with a checkpoint of `tagger train`, found "
            f"{model.backend} and {model.precision}; leave them out"
        )
    loaded = load_resnet18(model.name, description, choose_device(device), model.exact_preprocessing)
    [attribute] = attributes
    order = order_of(attribute, description.labels, model.name)
    encoder = loaded.encoder
    dtype = np.float32 if model.precision == "fp32" else np.float16
    head = LinearHead(loaded.weight[order], loaded.bias[order])
    temperature = temperature_of(calibrations.get(attribute.name), *identity_of(encoder, attribute, head))
    return Predictor(encoder, attributes, [head], temperatures=[temperature], dtype=dtype)


def load_system(
    job: Job,
    device: str | None,
    folder: Path | None,
    draw: Callable[[Preprocessing], Iterator[Tensor]],
) -> Loaded:
    """Load what the settings ask for: a predictor, and the fallback behind it. ModelError, ConfigError; see load_predictor.

    Where CLIP cannot be had and the fallback is to take its place, a warning says so, and the predictor is the fallback's.
    """
    settings, attributes, fallback = job.settings, job.attributes, job.settings.fallback
    calibrations, index, description = job.calibrations, job.artifacts.fallback_index, job.artifacts.fallback
    if fallback is None or index is None or description is None:
        return load_predictor(settings.model, device, attributes, folder, draw, calibrations, job.artifacts)
    averaged = attributes[index].name if fallback.mode == "ensemble" else None
    of_clip = {name: calibration for name, calibration in calibrations.items() if name != averaged}
    try:
        loaded = load_predictor(settings.model, device, attributes, folder, draw, of_clip, job.artifacts)
    except ModelError as error:
        if not fallback.on_model_error:
            raise
        log.warning("%s", error)
        log.warning(
            "WITHOUT CLIP: all rows are decided by %s alone ([fallback] on_model_error); correct the model before the next run",
            fallback.checkpoint,
        )
        return Loaded(load_resnet18_predictor(_alone(fallback, settings.model), description, device, attributes, calibrations))
    return load_fallback(job, loaded, device, index, description)


def load_fallback(job: Job, loaded: Loaded, device: str | None, index: int, description: ResNet18Description) -> Loaded:
    """Load the checkpoint behind a predictor that is loaded, for its attribute number `index`. ModelError, ConfigError."""
    settings, calibrations, first = job.settings.fallback, job.calibrations, loaded.predictor
    assert settings is not None
    attribute = first.attributes[index]
    model = _alone(settings, job.settings.model)
    if settings.mode == "low-confidence":
        second = load_resnet18_predictor(model, description, device, [attribute], calibrations)
        return replace(loaded, hybrid=Hybrid(first, second, index, below=settings.below))
    second = load_resnet18_predictor(model, description, device, [attribute])
    ensemble, weights = description.ensemble, first.encoder.weights
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
    first = first.with_temperatures(temperatures)
    second = second.with_temperatures([ensemble.temperature])
    return Loaded(
        first,
        loaded.reference and loaded.reference.with_temperatures(temperatures),
        Hybrid(first, second, index, weight=ensemble.weight, temperature=mixed),
    )


def _alone(settings: FallbackSettings, model: ModelSettings) -> ModelSettings:
    """Return the checkpoint as a model of its own, with CLIP's settings as far as they concern it."""
    precision = "fp32" if model.precision == "fp32" else "auto"
    return model.model_copy(update={"name": settings.checkpoint, "backend": "torch", "precision": precision})
