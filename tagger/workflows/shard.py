"""`tagger run --shard K/N`: tag one of N parts of a manifest and leave it for `tagger merge`."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Unpack

from tagger.catalog.job_description import describe_job
from tagger.catalog.object_storage import Workspace
from tagger.catalog.outputs import local_output, run_folder
from tagger.catalog.results import Results
from tagger.catalog.sharding import job_folder, part_name, part_of, shards_folder, write_record
from tagger.core.errors import UsageError
from tagger.core.files import writing
from tagger.core.lock import hold
from tagger.core.urls import is_object_url
from tagger.inference.fingerprints import result_schema_of
from tagger.inference.job import open_job, without_heads
from tagger.reports.run_record import recorded
from tagger.settings.load import load_settings
from tagger.settings.options import Machine, Output, Overrides
from tagger.workflows.plan import make_plan
from tagger.workflows.run import performance_of, tag_waiting
from tagger.workflows.tagging import open_tagging


@dataclass(frozen=True, kw_only=True)
class ShardSummary:
    """What a shard run has left. rows: of its part, all tagged now; encoded_images: those that went through the encoder."""

    shard: tuple[int, int]
    rows: int
    encoded_images: int
    output: Path

    def to_text(self) -> str:
        number, count = self.shard
        return f"{self.rows} rows of shard {number}/{count} are tagged; when all shards are: tagger merge {self.output}"


def tag_shard(
    manifest: str | Path,
    config: str | Path | Mapping[str, Any] | None = None,
    *,
    output: Output,
    machine: Machine = Machine(),  # noqa: B008  # frozen
    heads: bool = True,
    **overrides: Unpack[Overrides],
) -> ShardSummary:
    """Tag the part of `manifest` that `output.shard` says; its tags lie in the run folder until `merge` publishes all.

    Run again, it tags what is missing of its part. Raises the errors of core/errors.py.
    """
    name = str(manifest)
    if output.shard is None:
        raise UsageError("--shard: expected K/N, found none; name a part")
    if is_object_url(output.path or name):
        raise UsageError("--shard: expected an --output in a folder that all machines share, found an object store; choose one")
    number, count = output.shard
    place = local_output(name, output.path, False)
    # It has a log, a lock and metrics of its own, in the run folder that a result of this name would have.
    own = None if place is None else shards_folder(run_folder(place)) / f"{part_name(number, count)}.parquet"
    if own is not None:
        with writing(own.parent):
            run_folder(own).mkdir(parents=True, exist_ok=True)
    with recorded(name, own, None) as record:
        settings = load_settings(name, config, **overrides)
        if not heads:
            settings = without_heads(settings)
        with Workspace() as space:
            plan = make_plan(open_job(name, settings, space), space, output)
            job = plan.job
            shards = part_of(list(job.manifest.shards(plan.rows)), number, count)
            record.rows = sum(shard.stop - shard.start for shard in shards)
            mine = run_folder(shards_folder(plan.run_folder) / f"{part_name(number, count)}.parquet")
            with writing(plan.place):
                mine.mkdir(parents=True, exist_ok=True)
            with hold(mine), open_tagging(plan, machine, output) as tagging:
                started, began = time.time(), time.perf_counter()
                description = tagging.description
                folder = job_folder(plan.run_folder, description.depends_on)
                with writing(plan.place):
                    (folder / "parts").mkdir(parents=True, exist_ok=True)
                    describe_job(folder / "parts", description.depends_on)
                schema = result_schema_of(job, description.model)
                results = Results(plan.output, folder, schema, description.depends_on, joined=True)
                waiting = [shard for shard in shards if not results.is_done(shard)]
                for _ in tag_waiting(tagging, results, shards, waiting, machine, record):
                    pass
                rows = sum(shard.stop - shard.start for shard in waiting)
                job.manifest.held.require_unchanged()
                performance = performance_of(tagging, rows, time.perf_counter() - began, began - tagging.stages.began)
            found = {
                "manifest": name if is_object_url(name) else str(Path(name).absolute()),
                "settings": job.settings.model_dump(by_alias=True, mode="json", exclude_none=True),
                "limit": output.limit,
                "previous": None if output.previous is None else str(output.previous),
                "model": description.model,
                "device": description.device,
                "performance": asdict(performance),
                "started": started,
                "ended": time.time(),
            }
            # Where nothing was left to do, what is there says what the part took when it was tagged.
            if rows or not (folder / f"{part_name(number, count)}.json").exists():
                with writing(plan.place):
                    write_record(folder, number, count, found)
    encoded = performance.encoded_images
    return ShardSummary(shard=output.shard, rows=record.rows, encoded_images=encoded, output=plan.output)
