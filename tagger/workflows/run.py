"""`tagger run`: from a manifest to evaluated results; the public Python API that the command line calls."""

from __future__ import annotations

import logging
import resource
import sys
import time
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Unpack

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
from tagger.core.urls import is_object_url
from tagger.inference.artifacts import guarantees_of
from tagger.inference.fingerprints import model_of, result_schema_of
from tagger.inference.job import Job, open_job, without_heads
from tagger.inference.timings import Stages
from tagger.reports.run_record import Record, recorded
from tagger.reports.summary import RunSummary
from tagger.settings.load import load_settings
from tagger.settings.options import Machine, Output, Overrides
from tagger.workflows.plan import Plan, make_plan
from tagger.workflows.publish import Outcome, Previous, open_parts, publish, read_previous, write_summary
from tagger.workflows.tagging import Tagging, open_tagging

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
                summary = _carry_out(plan, machine, output, record)
                if output.report:
                    from tagger.workflows.report import report_on  # it imports what only a report needs

                    report_on(plan, summary, machine.workers)
        require_published(summary, plan)
        return summary


def require_published(summary: RunSummary, plan: Plan) -> None:
    """Raise GateError where the results were written aside."""
    if not summary.published:
        failed = [gate.to_text() for gate in summary.gates if not gate.passed]
        raise GateError(*failed, f"the results are written to {summary.output}, not to {plan.place}", summary=summary)


def _carry_out(plan: Plan, machine: Machine, output: Output, record: Record) -> RunSummary:
    """Tag what an interrupted run has not, then judge and publish all; returns the summary, which is written."""
    previous = read_previous(plan)
    shards = list(plan.job.manifest.shards(plan.rows))
    if shards:
        model, outcome, performance = _tag(plan, shards, previous, machine, output, record)
    else:
        log.warning("%s: no rows; the results are empty", plan.job.manifest.name)
        model = model_of(plan.job)
        outcome = publish_recorded(open_parts(plan, result_schema_of(plan.job, model), {}), shards, plan, previous, record)
        performance = Performance()
    return summarise(plan, model, outcome, performance, record)


def summarise(plan: Plan, model: Mapping[str, Any], outcome: Outcome, performance: Performance, record: Record) -> RunSummary:
    """Write the summary of what came of a plan, and return it."""
    job, settings = plan.job, plan.job.settings
    summary = record.summary = RunSummary(
        run_id=record.run_id,
        started=record.started,
        ended=datetime.now(UTC).isoformat(timespec="seconds"),
        exit_code=0 if outcome.published else GateError.exit_code,
        settings=settings.model_dump(by_alias=True),
        model=dict(model),
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
    plan: Plan, shards: Sequence[Shard], previous: Previous, machine: Machine, output: Output, record: Record
) -> tuple[dict[str, Any], Outcome, Performance]:
    """Load the model, tag the shards that are not done, and publish; returns the model, what came of it, what it took."""
    began = time.perf_counter()
    with open_tagging(plan, machine, output) as tagging:
        ready, description = tagging.stages.began, tagging.description
        schema = result_schema_of(plan.job, description.model)
        results = open_parts(plan, schema, description.depends_on)
        if plan.earlier is not None:
            require_same_job(plan.earlier, schema)
        waiting = [shard for shard in shards if not results.is_done(shard)]
        with closing(tag_waiting(tagging, results, shards, waiting, machine, record)) as tagged:
            outcome = publish_recorded(results, tagged, plan, previous, record)
        rows = sum(shard.stop - shard.start for shard in waiting)
        performance = performance_of(tagging, rows, time.perf_counter() - ready, ready - began)
    return {**description.model, "device": description.device}, outcome, performance


def tag_waiting(
    tagging: Tagging,
    results: Results,
    shards: Sequence[Shard],
    waiting: Sequence[Shard],
    machine: Machine,
    record: Record,
) -> Generator[Shard, None, None]:
    """Tag those of the shards that wait; yield all, in order, each as soon as it and those before it are done."""
    if len(waiting) < len(shards):
        log.info("continuing: %d of %d shards are there from an interrupted run", len(shards) - len(waiting), len(shards))
    total, rows = (sum(shard.stop - shard.start for shard in some) for some in (shards, waiting))
    missing = {shard.number for shard in waiting}
    try:
        with _progress(tagging.stages, total, total - rows, machine.progress, record) as advance:
            tagged = tagging.tag(results, waiting, advance) if waiting else iter(())
            for shard in shards:
                while shard.number in missing:
                    missing.discard(next(tagged).number)
                start = time.perf_counter()
                yield shard
                tagging.writing += time.perf_counter() - start
            for _ in tagged:  # to its end, where caches are tidied
                pass
    finally:
        record.encoded_images = tagging.stages.encoded_images


def performance_of(tagging: Tagging, rows: int, seconds: float, loading: float) -> Performance:
    """Return what tagging these rows took. seconds: in all, without those of loading."""
    stages = tagging.stages
    shares = {name: share / tagging.processes for name, share in stages.busy(tagging.decoders or 1).items()}
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return Performance(
        encoded_images=stages.encoded_images,
        fallback_images=stages.fallback_images,
        images_per_second=rows / seconds,
        stage_seconds={"load_model": loading, **stages.seconds(), "write": tagging.writing, "total": seconds},
        busy={name: round(share / seconds, 3) for name, share in {**shares, "writer": tagging.writing}.items()},
        peak_memory_bytes=peak if sys.platform == "darwin" else peak * 1024,  # kilobytes, but on macOS
    )


@contextmanager
def _progress(stages: Stages, total: int, done: int, shown: bool, record: Record) -> Iterator[Callable[[int], None]]:
    """Give what is called with the number of rows that are done: it heeds a stop, keeps the log, and moves the bar if `shown`."""
    with tqdm(total=total, initial=done, unit="image", disable=not (shown and sys.stderr.isatty())) as bar:

        def advance(count: int) -> None:
            nonlocal done
            done += count
            shutdown.check()
            record.journal.progress(done, stages.errors)
            bar.set_postfix(errors=stages.errors, refresh=False)
            bar.update(count)

        yield advance


def publish_recorded(results: Results, shards: Iterable[Shard], plan: Plan, previous: Previous, record: Record) -> Outcome:
    """Publish the results, and note in the record whether they are."""
    try:
        return publish(results, shards, plan, previous)
    finally:  # whatever fails after the rename
        record.published = results.published
