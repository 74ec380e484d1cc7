"""Settings -> predictors: encoders loaded, with the heads of their attributes."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from tagger.core.errors import ConfigError, ModelError, StoppedError
from tagger.core.types import Preprocessing
from tagger.encoders.base import PromptEncoder
from tagger.encoders.clip_files import find_checkpoint
from tagger.encoders.remembered_clip import ClipDescription, ClipMemory, RememberedClip
from tagger.encoders.resnet18_checkpoint import ResNet18Description, read_description
from tagger.images.workers import start_early
from tagger.inference.artifacts import Artifacts
from tagger.inference.hybrid import HYBRID, Hybrid, hybrid_weights
from tagger.inference.job import Job
from tagger.inference.predictor import Head, Predictor, encoded_at_once, identity_of
from tagger.inference.prompts import PromptEmbeddings
from tagger.inference.store import Store
from tagger.settings.attributes import Attribute, order_of, prompts_hash
from tagger.settings.options import Machine
from tagger.settings.schema import FallbackSettings, ModelSettings
from tagger.tagging.calibration import Calibration, temperature_of
from tagger.tagging.head_file import HeadFile
from tagger.tagging.heads import LinearHead, ZeroShotHead

if TYPE_CHECKING:
    from torch import Tensor

    from tagger.encoders.clip import ClipEncoder

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Loaded:
    """predictor: what decides, alone or with the hybrid's other part. reference: the same in fp32, where the predictor's
    precision was not asked for by name and ought to be tried first. hybrid: the rule behind the predictor, with a fallback.
    memory: where to keep what the encoder turns out to be, of one that was loaded.
    """

    predictor: Predictor
    reference: Predictor | None = None
    hybrid: Hybrid | None = None
    memory: ClipMemory | None = None


def zero_shot(
    encoder: PromptEncoder,
    attributes: Sequence[Attribute],
    embed_prompts: Callable[[Sequence[str]], NDArray[np.float32]],
    dtype: type[np.floating[Any]] = np.float16,
    calibrations: Mapping[str, Calibration] = MappingProxyType({}),
    heads: Mapping[str, HeadFile] = MappingProxyType({}),
) -> Predictor:
    """Join CLIP with each attribute's fitted head, else with its prompts' embeddings. ConfigError."""
    prompts = {
        attribute.name: [attribute.prompts(label) for label in attribute.labels]
        for attribute in attributes
        if attribute.name not in heads
    }
    texts = list(dict.fromkeys(text for labels in prompts.values() for own in labels for text in own))
    embedded = dict(zip(texts, embed_prompts(texts), strict=True)) if texts else {}
    chosen: list[Head] = []
    for attribute in attributes:
        if (head := heads.get(attribute.name)) is not None:
            head.check_encoder(encoder.weights)
            chosen.append(head.head())
        else:
            by_label = [np.stack([embedded[text] for text in own]) for own in prompts[attribute.name]]
            chosen.append(ZeroShotHead(by_label, encoder.logit_scale))
    predictor = Predictor(encoder, attributes, chosen, dtype=dtype)
    pairs = zip(attributes, predictor.identities, strict=True)
    return predictor.with_temperatures([temperature_of(calibrations.get(one.name), *identity) for one, identity in pairs])


def load_predictor(
    model: ModelSettings,
    machine: Machine,
    attributes: Sequence[Attribute],
    store: Store = Store(),  # noqa: B008  # frozen
    draw: Callable[[Preprocessing], Iterator[Tensor]] = lambda _: iter(()),
    calibrations: Mapping[str, Calibration] = MappingProxyType({}),
    artifacts: Artifacts = Artifacts(),  # noqa: B008  # frozen
) -> Loaded:
    """Load the encoder, or remember what it was, and embed the prompts. ModelError, ConfigError.

    draw: images to quantise a model with, uint8 (B, 3, H, W). calibrations: by attribute. artifacts: the heads, and the
    description of a model that is a ResNet18, if it has been read.
    """
    if model.is_resnet18:
        description = artifacts.model or read_description(model.name)
        return Loaded(load_resnet18_predictor(model, description, machine.device, attributes, calibrations))
    dtype = np.float32 if model.precision == "fp32" else np.float16
    checkpoint = find_checkpoint(model.name, model.revision) if store.folder else None
    memory = None
    if store.folder and checkpoint:
        asked = (machine.device, model.backend, model.precision, model.exact_preprocessing)
        memory = ClipMemory(store.folder, checkpoint, asked)
        known = None if machine.verify_content else memory.recall()
        if known is not None:
            load = partial(_load_as_it_was, model, known, memory, store, draw)
            remembered = RememberedClip(known, load)
            embed = PromptEmbeddings(remembered, store)
            return Loaded(zero_shot(remembered, attributes, embed, dtype, calibrations, artifacts.heads))
    if machine.workers != 0:
        start_early()
    # torch and transformers take seconds to import: only now that a model has to be loaded.
    from tagger.encoders.backends import check_backend, choose_device
    from tagger.encoders.clip import load_clip

    chosen = choose_device("cpu" if machine.device is None and model.backend == "openvino" else machine.device)
    check_backend(model.backend, model.precision, chosen)
    encoder = load_clip(model.name, model.revision, chosen, model.exact_preprocessing)
    embed = PromptEmbeddings(encoder, store)
    predictor = zero_shot(encoder, attributes, embed, dtype, calibrations, artifacts.heads)
    wanted = _in_precision(encoder, model, model.precision, store, draw)
    to_try = model.precision == "auto" and wanted.precision != "fp32"
    return Loaded(predictor.with_encoder(wanted), predictor if to_try else None, memory=memory)


def _in_precision(
    encoder: ClipEncoder, model: ModelSettings, precision: str, store: Store, draw: Callable[[Preprocessing], Iterator[Tensor]]
) -> ClipEncoder:
    from tagger.encoders.backends import in_precision

    at_once = encoded_at_once(encoder.device_type)
    images = partial(draw, encoder.preprocessing)
    checkpoint = Path(model.name) if Path(model.name).is_dir() else None
    return in_precision(
        encoder, model.backend, precision, at_once=at_once, folder=store.folder, images=images, checkpoint=checkpoint
    )


def _load_as_it_was(
    model: ModelSettings,
    known: ClipDescription,
    memory: ClipMemory,
    store: Store,
    draw: Callable[[Preprocessing], Iterator[Tensor]],
) -> ClipEncoder:
    """Load the encoder that has this description; StoppedError where it turns out to be another, which is forgotten then."""
    import torch

    from tagger.encoders.clip import load_clip

    encoder = load_clip(model.name, model.revision, torch.device(known.device), model.exact_preprocessing)
    encoder = _in_precision(encoder, model, known.precision, store, draw)
    if encoder.fingerprint != known.fingerprint:
        memory.forget()
        raise StoppedError(
            f"model {model.name}: expected what it was when it was loaded last, found another: its files, or the quantised "
            "model, were changed; run again"
        )
    return encoder


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
    from tagger.encoders.backends import choose_device
    from tagger.encoders.resnet18 import load_resnet18

    loaded = load_resnet18(model.name, description, choose_device(device), model.exact_preprocessing)
    [attribute] = attributes
    order = order_of(attribute, description.labels, model.name)
    encoder = loaded.encoder
    dtype = np.float32 if model.precision == "fp32" else np.float16
    head = LinearHead(loaded.weight.numpy()[order], loaded.bias.numpy()[order])
    temperature = temperature_of(calibrations.get(attribute.name), *identity_of(encoder, attribute, head))
    return Predictor(encoder, attributes, [head], temperatures=[temperature], dtype=dtype)


def load_system(
    job: Job,
    machine: Machine,
    store: Store,
    draw: Callable[[Preprocessing], Iterator[Tensor]],
) -> Loaded:
    """Load what the settings ask for: a predictor, and the fallback behind it. ModelError, ConfigError; see load_predictor.

    Where CLIP cannot be had and the fallback is to take its place, a warning says so, and the predictor is the fallback's.
    """
    settings, attributes, fallback = job.settings, job.attributes, job.settings.fallback
    calibrations, index, description = job.calibrations, job.artifacts.fallback_index, job.artifacts.fallback
    device = machine.device
    if fallback is None or index is None or description is None:
        return load_predictor(settings.model, machine, attributes, store, draw, calibrations, job.artifacts)
    averaged = attributes[index].name if fallback.mode == "ensemble" else None
    of_clip = {name: calibration for name, calibration in calibrations.items() if name != averaged}
    try:
        loaded = load_predictor(settings.model, machine, attributes, store, draw, of_clip, job.artifacts)
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
    return replace(
        loaded,
        predictor=first,
        reference=loaded.reference and loaded.reference.with_temperatures(temperatures),
        hybrid=Hybrid(first, second, index, weight=ensemble.weight, temperature=mixed),
    )


def _alone(settings: FallbackSettings, model: ModelSettings) -> ModelSettings:
    """Return the checkpoint as a model of its own, with CLIP's settings as far as they concern it."""
    precision = "fp32" if model.precision == "fp32" else "auto"
    return model.model_copy(update={"name": settings.checkpoint, "backend": "torch", "precision": precision})
