"""`tagger calibrate`: from labelled rows to a calibration file; the public Python API that the command line calls."""

from __future__ import annotations

import logging
import math
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Unpack

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from tagger.catalog.object_storage import Workspace
from tagger.core import shutdown
from tagger.core.errors import ConfigError, StoppedError
from tagger.core.files import reason, write_text
from tagger.images.workers import start_early
from tagger.inference.artifacts import fallback_rule
from tagger.inference.job import Job, open_job
from tagger.settings.attributes import Attribute, prompts_hash
from tagger.settings.load import load_settings
from tagger.settings.options import Machine, Overrides
from tagger.tagging.calibration import Calibration, CalibrationFile
from tagger.tagging.decisions import log_probabilities
from tagger.training.calibration import System, _fit

if TYPE_CHECKING:
    from tagger.inference.local_engine import LocalEngine


log = logging.getLogger(__name__)


def calibrate(
    manifest: str | Path,
    output: str | Path,
    config: str | Path | Mapping[str, Any] | None = None,
    *,
    target_precision: float | None = None,
    seed: int = 0,
    machine: Machine = Machine(),  # noqa: B008  # frozen
    **overrides: Unpack[Overrides],
) -> CalibrationFile:
    """Fit a temperature for each attribute and source on half of the labelled rows, judge it on the others, and write it.

    target_precision: share of right labels that the rows which need no review shall have; `review_below` is chosen on the
    first half so that they do. Raises the errors of core/errors.py; ManifestError where an attribute has fewer than two
    labelled rows.
    """
    name = str(manifest)
    settings = load_settings(name, config, **overrides)
    plain = tuple(one.model_copy(update={"calibration": None}) for one in settings.attributes)
    with Workspace() as space:
        job = open_job(name, settings.model_copy(update={"attributes": plain}), space)
        if not any(attribute.truth_column for attribute in job.attributes):
            raise ConfigError(f"{name}: expected an attribute with a truth_column, found none; name the column of right answers")
        if machine.workers != 0:
            start_early()
        attributes = _calibrate(job, machine, target_precision, seed)
        content = CalibrationFile(manifest=job.manifest.content_hash(), seed=seed, attributes=attributes)
    try:
        write_text(Path(output), content.model_dump_json(indent=2) + "\n")
    except OSError as error:
        raise StoppedError(
            f"{output}: expected to write the calibration, found: {reason(error)}; choose another place"
        ) from error
    return content


def _calibrate(job: Job, machine: Machine, precision: float | None, seed: int) -> dict[str, Calibration]:
    # torch takes seconds to import: only now that everything else is known to be right.
    from tagger.inference.load import open_engine
    from tagger.training.dataset import LeftOut, truth_of

    settings, asked = job.settings, [attribute for attribute in job.attributes if attribute.truth_column]
    if settings.fallback is not None:  # both encoders see every row
        everything = settings.fallback.model_copy(update={"below": math.inf, "on_model_error": False})
        job = replace(job, settings=settings.model_copy(update={"fallback": everything}))

    def labelled(table: pa.Table) -> NDArray[np.int64]:
        return np.flatnonzero(np.max([truth_of(table, attribute) for attribute in asked], axis=0) >= 0)

    firsts: list[list[NDArray[np.float32]]] = []
    seconds: list[NDArray[np.float32]] = []
    truths: list[list[NDArray[np.int64]]] = []
    left_out = LeftOut()
    with open_engine(job, machine) as engine:
        shards = list(job.manifest.shards())
        for shard in engine.embed(job.manifest, shards, lambda _: shutdown.check(), labelled):
            left_out.add(shard.errors.values())
            tagged = shard.tagged()
            firsts.append(engine.predictor.probabilities(shard.embeddings[tagged]))
            if (fallback := engine.fallback) is not None:
                embeddings = shard.second_embeddings(fallback.second.encoder.dimension, fallback.second.dtype)
                seconds += fallback.second.probabilities(embeddings)
            truths.append([truth_of(shard.table, attribute)[tagged] for attribute in asked])
        left_out.say()
        found = {}
        for number, attribute in enumerate(asked):
            truth = np.concatenate([np.empty(0, np.int64), *(part[number] for part in truths)])
            index = job.attributes.index(attribute)
            mode, below = fallback_rule(settings, job.artifacts, index)
            first = np.concatenate([np.empty((0, len(attribute.labels)), np.float32), *(part[index] for part in firsts)])
            rows = truth >= 0
            second = np.concatenate([first[:0], *seconds])[rows] if mode != "none" else None
            systems = _systems(engine, attribute, index, mode, first[rows], second)
            found[attribute.name] = _fit(job.manifest.name, attribute, systems, truth[rows], mode, below, precision, seed)
    return found


def _systems(
    engine: LocalEngine,
    attribute: Attribute,
    index: int,
    mode: str,
    first: NDArray[np.float32],
    second: NDArray[np.float32] | None,
) -> dict[str, System]:
    """Whoever may decide, the one who does so alone, or first, first."""
    from tagger.inference.hybrid import HYBRID, hybrid_weights

    encoder, fallback = engine.predictor.encoder, engine.fallback
    prompts = prompts_hash(attribute) if encoder.reads_prompts else ""
    if second is None or fallback is None:
        return {encoder.source: System(log_probabilities(first), 1.0, encoder.weights, prompts)}
    own = fallback.second.encoder
    alone = System(log_probabilities(second), fallback.second.temperatures[0], own.weights, "")
    if mode == "low-confidence":
        return {encoder.source: System(log_probabilities(first), 1.0, encoder.weights, prompts), own.source: alone}
    mean, _ = fallback.join(first, second, np.ones(len(first), np.bool_))
    return {
        HYBRID: System(log_probabilities(mean), 1.0, hybrid_weights(encoder.weights, own.weights), prompts),
        own.source: alone,
    }
