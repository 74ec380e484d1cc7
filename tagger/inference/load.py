"""A job -> the engine that carries it out, with its models and caches open."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from functools import partial
from types import MappingProxyType
from typing import TYPE_CHECKING, cast

from tagger.cache.embedding_cache import EmbeddingCache
from tagger.core import shutdown
from tagger.core.memory import keep_freed_memory
from tagger.core.types import Preprocessing
from tagger.images.reading import Reading, decoded_for
from tagger.images.workers import choose_workers, fit_shared_memory
from tagger.inference.artifacts import set_threshold_of
from tagger.inference.bad_images import BadImages
from tagger.inference.embedding_stream import EmbeddingStream
from tagger.inference.fallback_stream import FallbackStream
from tagger.inference.fingerprints import embeddings_depend_on, errors_depend_on, result_schema_of
from tagger.inference.job import Job
from tagger.inference.local_engine import LocalEngine, preprocessings_of
from tagger.inference.precision_trial import TRIED, disagreements
from tagger.inference.predictor import Predictor
from tagger.inference.predictors import Loaded, load_system
from tagger.inference.sampling import draw_images
from tagger.inference.store import Store, store_of
from tagger.inference.unknown import unknown_rules
from tagger.settings.options import Machine

if TYPE_CHECKING:
    from tagger.encoders.clip import ClipEncoder

log = logging.getLogger(__name__)


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
    store = store_of(job.settings.cache)
    draw = partial(draw_images, job.manifest, rows, job.policy)
    loaded = _with_rules(load_system(job, machine, store, draw), job, store)
    shutdown.check()
    wanted = {**preprocessings_of(loaded.predictor, loaded.hybrid), **pixels}
    image_bytes = 3 * sum(height * width for height, width in {one.size for one in wanted.values()})
    workers = choose_workers(loaded.predictor.encoder.device_type) if machine.workers is None else machine.workers
    workers = fit_shared_memory(workers, machine.batch_size * image_bytes)
    reading = Reading(policy=job.policy, preprocessings=wanted, workers=workers)

    server = caches.enter_context(store.open_server())

    def cache(predictor: Predictor) -> EmbeddingCache:
        depends_on = embeddings_depend_on(job.policy, predictor, decoded_for(wanted))
        return caches.enter_context(store.open_embeddings(depends_on, predictor.encoder.dimension, predictor.dtype, server))

    # One for both precisions: what the trial shows to it is known to the run, and counted.
    hybrid = loaded.hybrid
    stream = EmbeddingStream(hybrid.second, cache(hybrid.second)) if hybrid else None

    bad_images = BadImages(caches.enter_context(store.open(errors_depend_on(job.policy, decoded_for(wanted)))))

    def engine(predictor: Predictor) -> LocalEngine:
        fallback = FallbackStream(hybrid.with_first(predictor), stream, show_all) if hybrid and stream else None
        return LocalEngine(
            predictor,
            cache(predictor),
            reading,
            bad_images=bad_images,
            batch_size=machine.batch_size,
            verify_content=machine.verify_content,
            fallback=fallback,
        )

    def keep(predictor: Predictor) -> None:
        if loaded.memory is not None:
            loaded.memory.keep(cast("ClipEncoder", predictor.encoder))

    chosen = engine(loaded.predictor)
    if loaded.reference is None:
        keep(loaded.predictor)
        return chosen
    reference = engine(loaded.reference.encoding_at_once(TRIED))
    schema = result_schema_of(job, {})
    differ = disagreements(job.manifest, rows, schema, chosen, reference, lambda _: shutdown.check())
    if not differ:
        chosen.stages.errors = 0  # the run meets them again
        keep(loaded.predictor)
        return chosen
    log.warning(
        "precision auto: %s decides %d times otherwise than fp32 about the first images; going on in fp32",
        loaded.predictor.encoder.precision,
        differ,
    )
    keep(loaded.reference)
    return engine(loaded.reference)


def _with_rules(loaded: Loaded, job: Job, store: Store) -> Loaded:
    """Return the same with the thresholds of prediction sets, and the rules for images that are none of the labels."""
    alone = job.settings.fallback is not None and loaded.hybrid is None
    thresholds = [set_threshold_of(one, job.calibrations.get(one.name), alone) for one in job.attributes]
    rules = unknown_rules(job, loaded.predictor.encoder, store)

    def complete(predictor: Predictor) -> Predictor:
        return predictor.with_set_thresholds(thresholds).with_unknown_rules(rules)

    return replace(loaded, predictor=complete(loaded.predictor), reference=loaded.reference and complete(loaded.reference))
