"""A plan -> the engine that runs it, with its models and caches open."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from functools import partial

from tagger import stop
from tagger.encoders.cache import EmbeddingCache, cache_folder, open_cache
from tagger.engines.embedding import EmbeddingStream
from tagger.engines.local import LocalEngine
from tagger.engines.sampling import TRIED, disagreements, draw_images
from tagger.engines.second import SecondOpinion
from tagger.engines.workers import choose_workers, fit_shared_memory
from tagger.fallback import load_system
from tagger.identity import embeddings_depend_on, result_schema_of
from tagger.images.decode import decoded_for
from tagger.memory import keep_freed_memory
from tagger.plan import Plan
from tagger.predictor import Predictor

log = logging.getLogger(__name__)


@contextmanager
def open_engine(
    plan: Plan, device: str | None, *, batch_size: int, workers: int | None, verify_content: bool = False
) -> Iterator[LocalEngine]:
    """Load the models of the plan's settings and open the embedding cache. ModelError, ConfigError.

    A precision that was not asked for by name is tried on the first images, and fp32 taken where it decides otherwise.
    """
    with ExitStack() as caches:
        engine = _open(plan, device, batch_size, workers, verify_content, caches)
        yield engine
        engine.cache.trim()


def _open(
    plan: Plan, device: str | None, batch_size: int, workers: int | None, verify_content: bool, caches: ExitStack
) -> LocalEngine:
    """In a function of its own: a model that is tried and not taken is in nobody's way afterwards."""
    keep_freed_memory()
    folder = cache_folder(plan.settings.cache.folder) if plan.settings.cache.enabled else None
    draw = partial(draw_images, plan.manifest, plan.rows, plan.policy)
    first, fallback = load_system(plan.settings, device, plan.calibrations, folder, draw)
    stop.check()
    predictors = [first, *([fallback.second] if fallback else [])]
    wanted = [predictor.encoder.preprocessing for predictor in predictors]
    pixels = sum(height * width for height, width in {one.size for one in wanted})
    workers = choose_workers(first.encoder.device.type) if workers is None else workers
    workers = fit_shared_memory(workers, 3 * batch_size * pixels)

    def cache(predictor: Predictor) -> EmbeddingCache:
        depends_on = embeddings_depend_on(plan.policy, predictor, decoded_for(wanted))
        dimension, limit = predictor.encoder.dimension, int(plan.settings.cache.max_gb * 1e9)
        return caches.enter_context(open_cache(folder, depends_on, dimension=dimension, dtype=predictor.dtype, limit=limit))

    # One for both precisions: what the trial shows to it is known to the run, and counted.
    shown = EmbeddingStream(fallback.second, cache(fallback.second)) if fallback else None

    def engine(predictor: Predictor) -> LocalEngine:
        second = SecondOpinion(fallback.with_first(predictor), shown) if fallback and shown else None
        return LocalEngine(
            predictor,
            cache(predictor),
            plan.policy,
            batch_size=batch_size,
            workers=workers,
            verify_content=verify_content,
            second=second,
        )

    chosen = engine(first)
    if first.reference is None:
        return chosen
    reference = engine(first.reference.encoding_at_once(TRIED))
    schema = result_schema_of(plan, {})
    differ = disagreements(plan.manifest, plan.rows, schema, chosen, reference, lambda _: stop.check())
    if not differ:
        chosen.stages.errors = 0  # the run meets them again
        first.reference = None  # and its memory is free
        return chosen
    log.warning(
        "precision auto: %s decides %d times otherwise than fp32 about the first images; going on in fp32",
        first.encoder.precision,
        differ,
    )
    return engine(first.reference)
