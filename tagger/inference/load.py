"""A job -> the engine that carries it out, with its models and caches open."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
import torch
from torch import Tensor

from tagger.core import shutdown
from tagger.core.errors import ConfigError, ModelError
from tagger.core.memory import keep_freed_memory
from tagger.core.text import first_line
from tagger.core.types import Preprocessing
from tagger.encoders.backends import check_backend, in_precision
from tagger.encoders.clip import ClipEncoder, load_clip
from tagger.encoders.embedding_cache import EmbeddingCache, cache_folder, open_cache
from tagger.encoders.resnet18 import load_resnet18
from tagger.encoders.resnet18_checkpoint import ResNet18Description, read_description
from tagger.images.decode import decoded_for
from tagger.images.loader import Reading
from tagger.images.workers import choose_workers, fit_shared_memory
from tagger.inference.artifacts import Artifacts, set_threshold_of
from tagger.inference.embedding_stream import EmbeddingStream
from tagger.inference.fallback_stream import FallbackStream
from tagger.inference.fingerprints import embeddings_depend_on, result_schema_of
from tagger.inference.hybrid import HYBRID, Hybrid, hybrid_weights
from tagger.inference.job import Job
from tagger.inference.local_engine import LocalEngine, preprocessings_of
from tagger.inference.precision_trial import TRIED, disagreements
from tagger.inference.predictor import Head, Identity, Predictor, identity_of
from tagger.inference.sampling import draw_images
from tagger.settings.attributes import Attribute, order_of, prompts_hash
from tagger.settings.options import Machine
from tagger.settings.schema import FallbackSettings, ModelSettings
from tagger.tagging.calibration import Calibration, temperature_of
from tagger.tagging.head_file import HEAD, HeadFile
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


@contextmanager
def open_engine(
    job: Job,
    machine: Machine,
    *,
    rows: int | None = None,
    show_all: bool = False,
    pixels: Mapping[str, Preprocessing] = MappingProxyType({}),
) -> Iterator[LocalEngine]:
    """Load the models of the job's settings and open the embedding cache. ModelError, ConfigError.

    A precision that was not asked for by name is tried on the first images, and fp32 taken where it decides otherwise.
    rows: those of the manifest that are tagged, the first ones; default: all. show_all: whether a fallback sees every row,
    instead of those alone that its rule shows it. pixels: by name, those that the engine's `embed` hands out.
    """
    with ExitStack() as caches:
        engine = _open(job, machine, job.manifest.rows if rows is None else rows, show_all, pixels, caches)
        yield engine
        engine.cache.trim()


def _open(
    job: Job, machine: Machine, rows: int, show_all: bool, pixels: Mapping[str, Preprocessing], caches: ExitStack
) -> LocalEngine:
    """Choose among the engines; in a function of its own, so that a model that is tried and not taken leaves the memory."""
    keep_freed_memory()
    folder = cache_folder(job.settings.cache.folder) if job.settings.cache.enabled else None
    draw = partial(draw_images, job.manifest, rows, job.policy)
    loaded = _with_sets(load_system(job, machine.device, folder, draw), job)
    shutdown.check()
    wanted = {**preprocessings_of(loaded.predictor, loaded.hybrid), **pixels}
    image_bytes = 3 * sum(height * width for height, width in {one.size for one in wanted.values()})
    workers = choose_workers(loaded.predictor.encoder.device.type) if machine.workers is None else machine.workers
    workers = fit_shared_memory(workers, machine.batch_size * image_bytes)
    reading = Reading(policy=job.policy, preprocessings=wanted, workers=workers)

    def cache(predictor: Predictor) -> EmbeddingCache:
        depends_on = embeddings_depend_on(job.policy, predictor, decoded_for(wanted))
        dimension, limit = predictor.encoder.dimension, int(job.settings.cache.max_gb * 1e9)
        return caches.enter_context(open_cache(folder, depends_on, dimension=dimension, dtype=predictor.dtype, limit=limit))

    # One for both precisions: what the trial shows to it is known to the run, and counted.
    hybrid = loaded.hybrid
    stream = EmbeddingStream(hybrid.second, cache(hybrid.second)) if hybrid else None

    def engine(predictor: Predictor) -> LocalEngine:
        fallback = FallbackStream(hybrid.with_first(predictor), stream, show_all) if hybrid and stream else None
        return LocalEngine(
            predictor,
            cache(predictor),
            reading,
            batch_size=machine.batch_size,
            verify_content=machine.verify_content,
            fallback=fallback,
        )

    chosen = engine(loaded.predictor)
    if loaded.reference is None:
        return chosen
    reference = engine(loaded.reference.encoding_at_once(TRIED))
    schema = result_schema_of(job, {})
    differ = disagreements(job.manifest, rows, schema, chosen, reference, lambda _: shutdown.check())
    if not differ:
        chosen.stages.errors = 0  # the run meets them again
        return chosen
    log.warning(
        "precision auto: %s decides %d times otherwise than fp32 about the first images; going on in fp32",
        loaded.predictor.encoder.precision,
        differ,
    )
    return engine(loaded.reference)


def _with_sets(loaded: Loaded, job: Job) -> Loaded:
    """Return the same with the probabilities from which on labels belong to prediction sets, as the calibrations have them."""
    alone = job.settings.fallback is not None and loaded.hybrid is None
    thresholds = [set_threshold_of(one, job.calibrations.get(one.name), alone) for one in job.attributes]
    reference = loaded.reference and loaded.reference.with_set_thresholds(thresholds)
    return replace(loaded, predictor=loaded.predictor.with_set_thresholds(thresholds), reference=reference)


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
    fitted = [Identity(HEAD, heads[one.name].fingerprint, "") if one.name in heads else None for one in attributes]
    predictor = Predictor(encoder, attributes, chosen, fitted=fitted, dtype=dtype)
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
    temperature = temperature_of(calibrations.get(attribute.name), *identity_of(encoder, attribute))
    dtype = np.float32 if model.precision == "fp32" else np.float16
    head = LinearHead(loaded.weight[order], loaded.bias[order])
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
