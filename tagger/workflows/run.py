"""One run, from manifest to evaluated results; the public Python API that the command line calls."""

from __future__ import annotations

import logging
import resource
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
from tqdm import tqdm

from tagger.catalog.object_storage import Workspace
from tagger.catalog.outputs import local_output, published_name
from tagger.catalog.remote_results import discard_stored
from tagger.catalog.results import discard_parts
from tagger.catalog.retry import require_same_job
from tagger.core import shutdown
from tagger.core.errors import GateError, StoppedError
from tagger.core.files import reason
from tagger.core.lock import hold
from tagger.core.text import without_secrets
from tagger.core.types import BATCH_SIZE
from tagger.core.urls import is_object_url
from tagger.images.workers import start_early
from tagger.inference.fingerprints import result_schema_of, results_depend_on
from tagger.reports.run_record import recorded
from tagger.reports.summary import RunSummary
from tagger.settings.load import gather_settings
from tagger.workflows.plan import Plan, make_plan
from tagger.workflows.publish import _previous, _publish, _results, _write_summary

log = logging.getLogger(__name__)


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
    previous: str | Path | None = None,
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
    retry_errors: an earlier result, of which only the error rows are tagged; without an `output` it is replaced, or published
    where it was rejected. previous: the earlier result with which labels are compared; default: the one at `output`. cache: the
    embedding cache's folder; False for none. verify_content: read every image, instead of taking a file whose size and times,
    or a remote image whose version, are as they were for the same. exact_preprocessing: pixels as the checkpoint's own image
    processor makes them, to the bit.

    Until the end nothing appears at `output`, and nothing at all where a gate fails. Raises the errors of errors.py; GateError
    after the results are written aside.
    """
    name = str(manifest)
    if retry_errors is not None:
        output, overwrite = output or published_name(retry_errors), overwrite or output is None
    last = None if previous is None or is_object_url(previous) else Path(previous)
    with recorded(name, local_output(name, output, in_place), last) as record:
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
                previous=previous,
                max_errors=max_errors,
            )
            summary = record.summary = RunSummary(
                run_id=record.run_id,
                started=record.started,
                output=plan.place,
                settings=plan.settings.model_dump(by_alias=True),
                model={"name": without_secrets(settings.model.name), "revision": settings.model.revision},
                rows=plan.rows,
                previous=None if plan.previous_place is None else str(plan.previous_place),
                confidence={a.name: "calibrated" if a.name in plan.calibrations else "uncalibrated" for a in plan.attributes},
            )
            try:
                plan.run_folder.mkdir(exist_ok=True)
                with hold(plan.run_folder):
                    if fresh:
                        discard_parts(plan.run_folder)
                        if plan.url is not None:
                            discard_stored(plan.url)
                    carry_out(
                        plan,
                        summary,
                        record.journal.progress,
                        device=device,
                        batch_size=batch_size,
                        workers=workers,
                        verify_content=verify_content,
                        progress=progress,
                    )
            except (OSError, pa.ArrowException) as error:
                raise StoppedError(
                    f"{plan.place}: expected to write results, found: {reason(error)}; nothing was published; free the disk, or "
                    "correct the permissions of its folder, and run again to continue"
                ) from error
        if not summary.published:
            failed = [gate.to_text() for gate in summary.gates if not gate.passed]
            raise GateError(*failed, f"the results are written to {summary.output}, not to {plan.place}", summary=summary)
        return summary


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
    from tagger.inference.load import open_engine

    began = time.perf_counter()
    with open_engine(plan, device, batch_size=batch_size, workers=workers, verify_content=verify_content) as engine:
        ready = engine.stages.began
        encoder, hybrid = engine.predictor.encoder, engine.hybrid
        summary.model |= {"fingerprint": encoder.fingerprint, "backend": encoder.backend, "precision": encoder.precision}
        if hybrid is not None:
            summary.model["fallback"] = hybrid.second.encoder.fingerprint
        elif plan.settings.fallback is not None:  # it has taken CLIP's place
            summary.model |= {"name": plan.settings.fallback.checkpoint, "revision": None, "instead_of": summary.model["name"]}
        schema = result_schema_of(plan, summary.model)
        summary.model["device"] = str(encoder.device)
        results = _results(plan, schema, results_depend_on(plan, engine.predictor, hybrid))
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
                shutdown.check()
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
