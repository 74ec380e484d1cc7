"""A plan carried out: what an interrupted run has not done is tagged, then all is judged, and published or written aside."""

from __future__ import annotations

import logging
import resource
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime

import pyarrow as pa
from tqdm import tqdm

from tagger import stop
from tagger.catalog.earlier import require_same_job
from tagger.catalog.manifest import Shard
from tagger.catalog.results import Results, aside_of, reason, write_text
from tagger.catalog.storage import put
from tagger.catalog.stored_results import StoredResults, aside_url, run_url
from tagger.catalog.tags import status_counts
from tagger.engines.workers import start_early
from tagger.errors import GateError, StoppedError
from tagger.evaluation.changes import LabelChanges, compare_with
from tagger.evaluation.gates import Figures, judge
from tagger.evaluation.metrics import Evaluator
from tagger.identity import result_schema_of, results_depend_on
from tagger.plan import Plan
from tagger.summary import RunSummary

log = logging.getLogger(__name__)


def carry_out(
    plan: Plan,
    summary: RunSummary,
    said: Callable[[int, int], object],
    *,
    device: str | None,
    batch_size: int,
    workers: int | None,
    verify_content: bool,
    progress: bool,
) -> None:
    """Load, tag what an earlier run has not, judge, publish; fills in the summary and writes it.

    said: called with the rows done so far and the errors among them. progress: show a bar. Raises the errors of errors.py.
    """
    previous = _previous(plan)
    shards = list(plan.manifest.shards(plan.rows))
    if not shards:
        log.warning("%s: no rows; the results are empty", plan.manifest.name)
        results = _results(plan, result_schema_of(plan, summary.model), job={})
        _publish(results, shards, plan, summary, previous)
        _write_summary(plan, summary)
        return
    if workers != 0:
        start_early()
    # torch and transformers take seconds to import: only now that everything else is known to be right.
    from tagger.opening import open_engine

    began = time.perf_counter()
    with open_engine(plan, device, batch_size=batch_size, workers=workers, verify_content=verify_content) as engine:
        ready = engine.stages.began
        encoder, fallback = engine.predictor.encoder, engine.fallback
        summary.model |= {"fingerprint": encoder.fingerprint, "backend": encoder.backend, "precision": encoder.precision}
        if fallback is not None:
            summary.model["fallback"] = fallback.second.encoder.fingerprint
        elif plan.settings.fallback is not None:  # it has taken CLIP's place
            summary.model |= {"name": plan.settings.fallback.checkpoint, "revision": None, "instead_of": summary.model["name"]}
        schema = result_schema_of(plan, summary.model)
        summary.model["device"] = str(encoder.device)
        results = _results(plan, schema, results_depend_on(plan, engine.predictor, fallback))
        if plan.earlier is not None:
            require_same_job(plan.earlier, schema)
        waiting = [shard for shard in shards if not results.is_done(shard)]
        if len(waiting) < len(shards):
            log.info("continuing: %d of %d shards are there from an interrupted run", len(shards) - len(waiting), len(shards))
        rows = sum(shard.stop - shard.start for shard in waiting)
        stages, writing, done = engine.stages, 0.0, plan.rows - rows
        bar = tqdm(total=plan.rows, initial=plan.rows - rows, unit="image", disable=not (progress and sys.stderr.isatty()))
        with bar:

            def advance(count: int) -> None:
                nonlocal done
                done += count
                stop.check()
                said(done, stages.errors)
                bar.set_postfix(errors=stages.errors, refresh=False)
                bar.update(count)

            for shard, table in engine.tag(plan.manifest, schema, waiting, advance, plan.earlier):
                start = time.perf_counter()
                results.write(shard, table)
                writing += time.perf_counter() - start
        start = time.perf_counter()
        _publish(results, shards, plan, summary, previous)
        writing += time.perf_counter() - start
        seconds = time.perf_counter() - ready
    summary.encoded_images, summary.fallback_images = stages.encoded_images, stages.fallback_images
    summary.images_per_second = rows / seconds
    summary.stage_seconds = {"load_model": ready - began, **stages.seconds(), "write": writing, "total": seconds}
    shares = {**stages.busy(engine.workers), "writer": writing}
    summary.busy = {name: round(share / seconds, 3) for name, share in shares.items()}
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    summary.peak_memory_bytes = peak if sys.platform == "darwin" else peak * 1024  # kilobytes, but on macOS
    _write_summary(plan, summary)


def _results(plan: Plan, schema: pa.Schema, job: Mapping[str, str]) -> Results:
    if plan.url is None:
        return Results(plan.output, plan.run_folder, schema, job)
    return StoredResults(plan.output, plan.run_folder, schema, job, plan.url)


def _write_summary(plan: Plan, summary: RunSummary) -> None:
    summary.exit_code = 0 if summary.published else GateError.exit_code
    summary.ended = datetime.now(UTC).isoformat(timespec="seconds")
    file = plan.run_folder / "summary.json"
    try:
        write_text(file, summary.to_json())
        if plan.url is not None:
            put(file, f"{run_url(plan.url)}/{file.name}")
    except OSError as error:
        raise StoppedError(
            f"{run_url(plan.url) if plan.url else plan.run_folder}: expected to write summary.json, found: {reason(error)}; the "
            f"results are complete at {summary.output}; `tagger evaluate` prints their evaluation"
        ) from error


def _previous(plan: Plan) -> LabelChanges | str:
    """The labels of the earlier result, or why there is nothing to compare with."""
    if plan.previous is None:
        return "there is no earlier result to compare with"
    key = plan.settings.manifest.id_column or plan.manifest.image_column
    compared = compare_with(plan.previous, plan.manifest.schema, key, [attribute.name for attribute in plan.attributes])
    if isinstance(compared, str):
        log.info("changed labels are not counted: %s", compared)
    return compared


def _publish(results: Results, shards: Sequence[Shard], plan: Plan, summary: RunSummary, previous: LabelChanges | str) -> None:
    """Publish the results if they pass the gates, counting, evaluating and judging exactly what is published."""
    truths = {a.name: (a.truth_column, a.label_names) for a in plan.attributes if a.truth_column}
    evaluator = Evaluator(truths)

    def accept() -> bool:
        summary.evaluation = evaluator.result() if truths else None
        summary.changed_labels = {} if isinstance(previous, str) else previous.counts
        figures = Figures(
            rows=plan.rows,
            errors=summary.errors.total(),
            review=summary.review,
            evaluation=summary.evaluation,
            changed=previous if isinstance(previous, str) else previous.counts,
        )
        summary.gates = judge(plan.gates, figures)
        return all(gate.passed for gate in summary.gates)

    try:
        for table in results.publish(shards, accept):
            stop.check()
            evaluator.update(table)
            if not isinstance(previous, str):
                previous.update(table)
            counts = status_counts(table)
            summary.tagged += counts.pop("tagged", 0)
            summary.review += counts.pop("review", 0)
            summary.errors.update(counts)
    finally:
        summary.published = results.published
    if not summary.published:
        summary.output = aside_of(plan.output) if plan.url is None else aside_url(plan.url)
