"""One run, from manifest to evaluated results; the public Python API that the command line calls."""

from __future__ import annotations

import logging
import resource
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
from tqdm import tqdm

from tagger import stop
from tagger.catalog.earlier import require_same_job
from tagger.catalog.lock import hold
from tagger.catalog.manifest import Shard
from tagger.catalog.results import Results, discard_parts, reason, write_text
from tagger.catalog.storage import Workspace, put
from tagger.catalog.stored_results import StoredResults, discard_stored, run_url
from tagger.catalog.tags import status_counts
from tagger.engines.workers import start_early
from tagger.errors import GateError, StoppedError
from tagger.evaluation.metrics import Evaluator
from tagger.identity import result_schema_of, results_depend_on
from tagger.plan import Plan, gather_settings, make_plan
from tagger.summary import RunSummary
from tagger.text import without_secrets

log = logging.getLogger(__name__)

BATCH_SIZE = 32


def run(
    manifest: str | Path,
    config: str | Path | Mapping[str, Any] | None = None,
    *,
    output: str | Path | None = None,
    labels: Sequence[str] | None = None,
    model: str | Path | None = None,
    revision: str | None = None,
    backend: str | None = None,
    precision: str | None = None,
    image_column: str | None = None,
    image_root: str | Path | None = None,
    device: str | None = None,
    batch_size: int = BATCH_SIZE,
    workers: int | None = None,
    limit: int | None = None,
    overwrite: bool = False,
    in_place: bool = False,
    fresh: bool = False,
    image_timeout: float | None = None,
    allow_formats: Sequence[str] | None = None,
    max_errors: int | str | None = None,
    retry_errors: str | Path | None = None,
    cache: str | Path | bool | None = None,
    verify_content: bool = False,
    exact_preprocessing: bool = False,
    progress: bool = False,
) -> RunSummary:
    """Tag every row of `manifest` (a Parquet file, a folder of them or a glob) and write the results to `output`.

    Either may be a URL of an object store: s3://, gs:// or az://. Then copies, parts and results lie in a temporary folder
    while the run lasts.

    config: a tagger.toml or its content; the other options beat it. backend, precision: what the image encoder computes with
    (encoders/precision.py). limit: only the first rows. in_place: write the tags
    into the manifest file itself. fresh: throw away what an interrupted run left instead of continuing. workers: processes
    that decode images, chosen where None; with 0, an image that kills its decoder kills the run. image_timeout: seconds for
    one image. allow_formats: beside JPEG, PNG and WebP. max_errors: how many rows may fail, "2%" of all or a number.
    retry_errors: an earlier result, of which only the error rows are tagged; replaced where there is no `output`. cache: the
    embedding cache's folder; False for none. verify_content: read every image, instead of taking a file whose size and times,
    or a remote image whose version, are as they were for the same. exact_preprocessing: pixels as the checkpoint's own image
    processor makes them, to the bit.

    Until the end nothing appears at `output`. Raises the errors of errors.py; GateError, that of `max_errors`, after the
    results are written.
    """
    name = str(manifest)
    settings = gather_settings(
        name,
        config,
        model=model,
        revision=revision,
        backend=backend,
        precision=precision,
        image_column=image_column,
        image_root=image_root,
        image_timeout=image_timeout,
        allow_formats=allow_formats,
        cache=cache,
        exact_preprocessing=exact_preprocessing,
    )
    with Workspace() as space:
        plan = make_plan(
            name,
            settings,
            space,
            labels=labels,
            output=output,
            limit=limit,
            overwrite=overwrite,
            in_place=in_place,
            retry_errors=retry_errors,
            max_errors=max_errors,
        )
        summary = RunSummary(
            output=plan.place,
            settings=plan.settings.model_dump(by_alias=True),
            model={"name": without_secrets(settings.model.name), "revision": settings.model.revision},
            rows=plan.rows,
            confidence={a.name: "calibrated" if a.name in plan.calibrations else "uncalibrated" for a in plan.attributes},
        )
        try:
            plan.run_folder.mkdir(exist_ok=True)
            with hold(plan.run_folder):
                if fresh:
                    discard_parts(plan.run_folder)
                    if plan.url is not None:
                        discard_stored(plan.url)
                _tag(plan, summary, device, batch_size, workers, verify_content, progress)
                _write_summary(plan, summary)
        except (OSError, pa.ArrowException) as error:
            raise StoppedError(
                f"{plan.place}: expected to write results, found: {reason(error)}; nothing was published; free the disk, or "
                "correct the permissions of its folder, and run again to continue"
            ) from error
    if plan.max_errors is not None and summary.errors.total() > plan.max_errors:
        raise GateError(
            f"{manifest}: expected at most {plan.max_errors} rows with errors (--max-errors), found {summary.errors.total()} of "
            f"{plan.rows}; the results are written to {plan.place}: see tag_reason there, then use --retry-errors",
            summary,
        )
    return summary


def _tag(
    plan: Plan,
    summary: RunSummary,
    device: str | None,
    batch_size: int,
    workers: int | None,
    verify_content: bool,
    progress: bool,
) -> None:
    """Load, tag what an earlier run has not, publish and evaluate; fills in the summary."""
    shards = list(plan.manifest.shards(plan.rows))
    if not shards:
        log.warning("%s: no rows; the results are empty", plan.manifest.name)
        results = _results(plan, result_schema_of(plan, summary.model), job={})
        _publish(results, shards, plan, summary)
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
        stages, writing = engine.stages, 0.0
        bar = tqdm(total=plan.rows, initial=plan.rows - rows, unit="image", disable=not (progress and sys.stderr.isatty()))
        with bar:

            def advance(count: int) -> None:
                stop.check()
                bar.set_postfix(errors=stages.errors, refresh=False)
                bar.update(count)

            for shard, table in engine.tag(plan.manifest, schema, waiting, advance, plan.earlier):
                start = time.perf_counter()
                results.write(shard, table)
                writing += time.perf_counter() - start
        start = time.perf_counter()
        _publish(results, shards, plan, summary)
        writing += time.perf_counter() - start
        seconds = time.perf_counter() - ready
    summary.encoded_images, summary.fallback_images = stages.encoded_images, stages.fallback_images
    summary.images_per_second = rows / seconds
    summary.stage_seconds = {"load_model": ready - began, **stages.seconds(), "write": writing, "total": seconds}
    shares = {**stages.busy(engine.workers), "writer": writing}
    summary.busy = {name: round(share / seconds, 3) for name, share in shares.items()}
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    summary.peak_memory_bytes = peak if sys.platform == "darwin" else peak * 1024  # kilobytes, but on macOS


def _results(plan: Plan, schema: pa.Schema, job: Mapping[str, str]) -> Results:
    if plan.url is None:
        return Results(plan.output, plan.run_folder, schema, job)
    return StoredResults(plan.output, plan.run_folder, schema, job, plan.url)


def _write_summary(plan: Plan, summary: RunSummary) -> None:
    file = plan.run_folder / "summary.json"
    try:
        write_text(file, summary.to_json())
        if plan.url is not None:
            put(file, f"{run_url(plan.url)}/{file.name}")
    except OSError as error:
        raise StoppedError(
            f"{run_url(plan.url) if plan.url else plan.run_folder}: expected to write summary.json, found: {reason(error)}; the "
            f"results are complete at {plan.place}; `tagger evaluate` prints their evaluation"
        ) from error


def _publish(results: Results, shards: Sequence[Shard], plan: Plan, summary: RunSummary) -> None:
    """Publish the results, counting and evaluating exactly what is published."""
    truths = {a.name: (a.truth_column, a.label_names) for a in plan.attributes if a.truth_column}
    evaluator = Evaluator(truths)
    for table in results.publish(shards):
        stop.check()
        evaluator.update(table)
        counts = status_counts(table)
        summary.tagged += counts.pop("tagged", 0)
        summary.review += counts.pop("review", 0)
        summary.errors.update(counts)
    summary.evaluation = evaluator.result() if truths else None
