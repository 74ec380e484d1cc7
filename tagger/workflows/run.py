"""`tagger run`: from a manifest to evaluated results; the public Python API that the command line calls."""

from __future__ import annotations

import logging
import resource
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Unpack

from tqdm import tqdm

from tagger.catalog.manifest import Shard
from tagger.catalog.object_storage import Workspace
from tagger.catalog.outputs import local_output, published_name
from tagger.catalog.remote_results import discard_stored
from tagger.catalog.results import Results, discard_parts
from tagger.catalog.retry import require_same_job
from tagger.core import shutdown
from tagger.core.errors import GateError
from tagger.core.files import writing
from tagger.core.lock import hold
from tagger.core.text import without_secrets
from tagger.core.urls import is_object_url
from tagger.inference.artifacts import guarantees_of
from tagger.inference.fingerprints import heads_of, result_schema_of, results_depend_on
from tagger.inference.job import Job, open_job, without_heads
from tagger.inference.load import open_engine
from tagger.reports.run_record import Record, recorded
from tagger.reports.summary import RunSummary
from tagger.settings.load import load_settings
from tagger.settings.options import Machine, Output, Overrides
from tagger.workflows.plan import Plan, make_plan
from tagger.workflows.publish import Outcome, Previous, open_parts, publish, read_previous, write_summary

if TYPE_CHECKING:
    from tagger.inference.local_engine import LocalEngine

log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class Performance:
    """What a run has encoded and how long it took, by the names of RunSummary."""

    encoded_images: int = 0
    fallback_images: int = 0
    images_per_second: float = 0.0
    stage_seconds: dict[str, float] = field(default_factory=dict)
    busy: dict[str, float] = field(default_factory=dict)
    peak_memory_bytes: int = 0


def run(
    manifest: str | Path,
    config: str | Path | Mapping[str, Any] | None = None,
    *,
    output: Output = Output(),  # noqa: B008  # frozen
    machine: Machine = Machine(),  # noqa: B008  # frozen
    heads: bool = True,
    **overrides: Unpack[Overrides],
) -> RunSummary:
    """Tag every row of `manifest` (a Parquet file, a folder of them or a glob) and write the results to `output`.

    Either may be a URL of an object store: s3://, gs:// or az://. Then copies, parts and results lie in a temporary folder
    while the run lasts. config: a tagger.toml or its content; the overrides beat it (settings/options.py).
    heads: False leaves out the attributes' heads, with what was calibrated for them, for as long as there are none.

    Until the end nothing appears at the output, and nothing at all where a gate fails. Raises the errors of core/errors.py;
    GateError after the results are written aside.
    """
    name = str(manifest)
    if output.retry_errors is not None:
        place = output.path or published_name(output.retry_errors)
        output = replace(output, path=place, overwrite=output.overwrite or output.path is None)
    previous = None if output.previous is None or is_object_url(output.previous) else Path(output.previous)
    with recorded(name, local_output(name, output.path, output.in_place), previous) as record:
        settings = load_settings(name, config, **overrides)
        if not heads:
            settings = without_heads(settings)
        with Workspace() as space:
            plan = make_plan(open_job(name, settings, space), space, output)
            record.rows, record.encoded_images = plan.rows, 0
            with writing(plan.place):
                plan.run_folder.mkdir(exist_ok=True)
            with hold(plan.run_folder):
                if output.fresh:
                    with writing(plan.place):
                        discard_parts(plan.run_folder)
                    if plan.url is not None:
                        discard_stored(plan.url)
                summary = _carry_out(plan, machine, record)
                if output.report:
                    from tagger.workflows.report import report_on  # it imports what only a report needs

                    report_on(plan, summary, machine.workers)
        if not summary.published:
            failed = [gate.to_text() for gate in summary.gates if not gate.passed]
            raise GateError(*failed, f"the results are written to {summary.output}, not to {plan.place}", summary=summary)
        return summary


def _carry_out(plan: Plan, machine: Machine, record: Record) -> RunSummary:
    """Tag what an interrupted run has not, then judge and publish all; returns the summary, which is written."""
    job, settings = plan.job, plan.job.settings
    model = {"name": without_secrets(settings.model.name), "revision": settings.model.revision}
    previous = read_previous(plan)
    shards = list(job.manifest.shards(plan.rows))
    if shards:
        model, outcome, performance = _tag(plan, shards, model, previous, machine, record)
    else:
        log.warning("%s: no rows; the results are empty", job.manifest.name)
        outcome = _publish(open_parts(plan, result_schema_of(job, model), {}), shards, plan, previous, record)
        performance = Performance()
    summary = record.summary = RunSummary(
        run_id=record.run_id,
        started=record.started,
        ended=datetime.now(UTC).isoformat(timespec="seconds"),
        exit_code=0 if outcome.published else GateError.exit_code,
        settings=settings.model_dump(by_alias=True),
        model=model,
        rows=plan.rows,
        previous=None if plan.previous_place is None else str(plan.previous_place),
        guarantees=_guarantees(job, model),
        confidence={one.name: "calibrated" if one.name in job.calibrations else "uncalibrated" for one in job.attributes},
        **vars(outcome),
        **vars(performance),
    )
    write_summary(plan, summary)
    return summary


def _guarantees(job: Job, model: Mapping[str, Any]) -> dict[str, dict[str, dict[str, Any]]]:
    """Return attribute -> what is promised of it; those of which nothing is promised are left out."""
    alone = "instead_of" in model
    found = {one.name: guarantees_of(one, job.calibrations.get(one.name), alone) for one in job.attributes}
    return {name: guarantees for name, guarantees in found.items() if guarantees}


def _tag(
    plan: Plan,
    shards: Sequence[Shard],
    model: dict[str, Any],
    previous: Previous,
    machine: Machine,
    record: Record,
) -> tuple[dict[str, Any], Outcome, Performance]:
    """Load the model, tag the shards that are not done, and publish; returns the model, what came of it, what it took."""
    began = time.perf_counter()
    with open_engine(plan.job, machine, rows=plan.rows) as engine:
        ready, timings = engine.stages.began, engine.stages
        model = _describe(model, engine, plan)
        schema = result_schema_of(plan.job, model)
        model = {**model, "device": str(engine.predictor.encoder.device)}
        results = open_parts(plan, schema, results_depend_on(plan.job, plan.rows, engine.predictor, engine.hybrid, plan.earlier))
        if plan.earlier is not None:
            require_same_job(plan.earlier, schema)
        waiting = [shard for shard in shards if not results.is_done(shard)]
        if len(waiting) < len(shards):
            log.info("continuing: %d of %d shards are there from an interrupted run", len(shards) - len(waiting), len(shards))
        rows, writing = sum(shard.stop - shard.start for shard in waiting), 0.0
        try:
            with _progress(engine, plan.rows, plan.rows - rows, machine.progress, record) as advance:
                for shard, table, sketches in engine.tag(plan.job.manifest, schema, waiting, advance, plan.earlier):
                    start = time.perf_counter()
                    results.write(shard, table, sketches)
                    writing += time.perf_counter() - start
        finally:
            record.encoded_images = timings.encoded_images
        start = time.perf_counter()
        outcome = _publish(results, shards, plan, previous, record)
        writing += time.perf_counter() - start
        seconds = time.perf_counter() - ready
    shares = {**timings.busy(engine.workers), "writer": writing}
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return (
        model,
        outcome,
        Performance(
            encoded_images=timings.encoded_images,
            fallback_images=timings.fallback_images,
            images_per_second=rows / seconds,
            stage_seconds={"load_model": ready - began, **timings.seconds(), "write": writing, "total": seconds},
            busy={name: round(share / seconds, 3) for name, share in shares.items()},
            peak_memory_bytes=peak if sys.platform == "darwin" else peak * 1024,  # kilobytes, but on macOS
        ),
    )


def _describe(model: Mapping[str, Any], engine: LocalEngine, plan: Plan) -> dict[str, Any]:
    """Return the model as the results' metadata has it: with what its weights are, and what computes with them."""
    encoder, checkpoint = engine.predictor.encoder, plan.job.settings.fallback
    described = {**model, "fingerprint": encoder.fingerprint, "backend": encoder.backend, "precision": encoder.precision}
    if heads := heads_of(engine.predictor):
        described["heads"] = heads
    if engine.hybrid is not None:
        return {**described, "fallback": engine.hybrid.second.encoder.fingerprint}
    if checkpoint is not None:  # it has taken CLIP's place
        return {**described, "name": checkpoint.checkpoint, "revision": None, "instead_of": model["name"]}
    return described


@contextmanager
def _progress(engine: LocalEngine, total: int, done: int, shown: bool, record: Record) -> Iterator[Callable[[int], None]]:
    """Give what is called with the number of rows that are done: it heeds a stop, keeps the log, and moves the bar if `shown`."""
    timings = engine.stages
    with tqdm(total=total, initial=done, unit="image", disable=not (shown and sys.stderr.isatty())) as bar:

        def advance(count: int) -> None:
            nonlocal done
            done += count
            shutdown.check()
            record.journal.progress(done, timings.errors)
            bar.set_postfix(errors=timings.errors, refresh=False)
            bar.update(count)

        yield advance


def _publish(results: Results, shards: Sequence[Shard], plan: Plan, previous: Previous, record: Record) -> Outcome:
    try:
        return publish(results, shards, plan, previous)
    finally:  # whatever fails after the rename
        record.published = results.published
