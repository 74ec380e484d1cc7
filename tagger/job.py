"""One run, from manifest to evaluated results; the public Python API that the command line calls."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa

from tagger.catalog.lock import hold
from tagger.catalog.results import discard_parts, reason
from tagger.catalog.storage import Workspace, is_remote
from tagger.catalog.stored_results import discard_stored
from tagger.errors import GateError, StoppedError
from tagger.execution import carry_out
from tagger.outputs import local_output, published_name
from tagger.plan import gather_settings, make_plan
from tagger.record import recorded
from tagger.summary import RunSummary
from tagger.text import without_secrets

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
    last = None if previous is None or is_remote(previous) else Path(previous)
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
