"""`tagger merge`: publish what shard runs have tagged, exactly as one run would have."""

from __future__ import annotations

import logging
import shutil
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from tagger.catalog.job_description import JOB, changes, read_description
from tagger.catalog.manifest import Shard
from tagger.catalog.object_storage import Workspace
from tagger.catalog.outputs import local_output, run_folder
from tagger.catalog.results import Results
from tagger.catalog.sharding import part_of, read_records, shards_folder
from tagger.core.errors import ManifestError, StoppedError, UsageError
from tagger.core.files import reason
from tagger.core.lock import hold
from tagger.core.urls import is_object_url
from tagger.inference.fingerprints import result_schema_of
from tagger.inference.job import open_job
from tagger.reports.run_record import recorded
from tagger.reports.summary import RunSummary
from tagger.settings.load import parse_settings
from tagger.settings.options import Machine, Output
from tagger.workflows.plan import Plan, make_plan
from tagger.workflows.publish import read_previous
from tagger.workflows.run import Performance, publish_recorded, require_published, summarise

log = logging.getLogger(__name__)

Records = Sequence[tuple[Path, dict[str, Any]]]


def merge(
    output: str | Path,
    *,
    overwrite: bool = False,
    report: bool = True,
    machine: Machine = Machine(),  # noqa: B008  # frozen
) -> RunSummary:
    """Publish the parts that `run --shard K/N` left beside `output`: gates, evaluation and report are those of a run.

    No model is loaded. Raises StoppedError where a part is missing, is being tagged, or is another job's; the errors of `run`
    else.
    """
    if is_object_url(output):
        raise UsageError("merge: expected a file, found an object store, where no shard can be tagged by hand; name a file")
    place = Path(output).absolute()
    folder = run_folder(place)
    records = _read(folder)
    job_folder, latest = max(records, key=lambda item: item[1]["ended"])
    ours = [record for found, record in records if found == job_folder]
    _require_one_way(job_folder, ours)
    name = latest["manifest"]
    wanted = Output(path=place, overwrite=overwrite, limit=latest["limit"], previous=latest["previous"], report=report)
    with recorded(name, local_output(name, place, False), None) as record, Workspace() as space, ExitStack() as held:
        settings = parse_settings(latest["settings"], where=str(job_folder))
        plan = make_plan(open_job(name, settings, space), space, wanted)
        record.rows, record.encoded_images = plan.rows, 0
        held.enter_context(hold(folder))
        for own in sorted(shards_folder(folder).glob("*-of-*.run")):
            held.enter_context(hold(own))  # it names a shard run that goes on
        results = _open(plan, job_folder, latest["model"])
        shards = list(plan.job.manifest.shards(plan.rows))
        others = [item for item in records if item[0] != job_folder]
        _require_all(results, shards, ours, others)
        outcome = publish_recorded(results, shards, plan, read_previous(plan), record)
        model = {**latest["model"], "device": latest["device"]}
        summary = summarise(plan, model, outcome, _performance(ours, plan.rows), record)
        if report:
            from tagger.workflows.report import report_on  # it imports what only a report needs

            report_on(plan, summary, machine.workers)
        held.close()
        try:
            shutil.rmtree(shards_folder(folder))
        except OSError as error:
            log.warning("%s: expected to remove parts, found: %s; the results are complete", folder, reason(error))
    require_published(summary, plan)
    return summary


def _read(folder: Path) -> Records:
    try:
        records = list(read_records(folder))
    except (OSError, ValueError) as error:
        raise ManifestError(
            f"{shards_folder(folder)}: expected records of shards, found: {reason(error)}; tag the shard again"
        ) from error
    if not records:
        raise UsageError(f"{shards_folder(folder)}: expected tagged shards, found none; tag them with tagger run --shard K/N")
    return records


def _require_one_way(folder: Path, records: Sequence[dict[str, Any]]) -> None:
    """Raise StoppedError where shards of one job were tagged with other gates, say: which ones to publish by is not clear."""

    def settings(record: dict[str, Any]) -> dict[str, Any]:
        said = {key: record[key] for key in ("manifest", "limit", "previous")}
        return {**said, **{key: value for key, value in record["settings"].items() if key != "cache"}}

    first = settings(records[0])
    for record in records[1:]:
        other = settings(record)
        if differ := [key for key in sorted({*first, *other}) if first.get(key) != other.get(key)]:
            raise StoppedError(
                f"{folder}: expected shards of one run, found {_named(records[0])} and {_named(record)} with another "
                f"{', '.join(differ)}; tag one of them again"
            )


def _open(plan: Plan, folder: Path, model: dict[str, Any]) -> Results:
    """Open the parts of this job. Raises StoppedError where the manifest has changed since."""
    job = read_description(folder / "parts" / JOB) or {}
    now = {"manifest": plan.job.manifest.content_hash(), "rows": str(plan.rows)}
    if differ := changes({name: job.get(name, "") for name in now}, now):
        raise StoppedError(
            f"{folder}: expected shards of {plan.job.manifest.name}, found those of another state of it: {', '.join(differ)} "
            "changed; tag them again"
        )
    return Results(plan.output, folder, result_schema_of(plan.job, model), job, joined=True)


def _require_all(results: Results, shards: Sequence[Shard], ours: Sequence[dict[str, Any]], others: Records) -> None:
    """Raise StoppedError where parts are missing, and name them; warn of parts that are there twice, or of other jobs."""
    counts = sorted({record["of"] for record in ours})
    foreign = ", ".join(_named(record) for _, record in others)
    undone = {shard.number for shard in shards if not results.is_done(shard)}
    if undone:
        parts = ((number, part_of(shards, number, counts[-1])) for number in range(1, counts[-1] + 1))
        missing = [f"{number}/{counts[-1]}" for number, part in parts if any(shard.number in undone for shard in part)]
        raise StoppedError(
            f"{results.place}: expected all shards, found none of {', '.join(missing)}"
            + (f"; {foreign} {'is' if len(others) == 1 else 'are'} of another job{_difference(others, ours)}" if others else "")
            + "; nothing was published; tag them with tagger run --shard, and merge again"
        )
    if len(counts) > 1:
        named = " and of ".join(map(str, counts))
        log.warning("%s: rows are tagged more than once, as parts of %s; each is taken once", results.place, named)
    if others:
        log.warning("%s: left out and removed: %s of another job", results.place, foreign)


def _difference(others: Records, ours: Sequence[dict[str, Any]]) -> str:
    """Say in which settings another job's shard differs, where it is by these."""
    first, other = ours[0]["settings"], others[0][1]["settings"]
    differ = [key for key in sorted({*first, *other}) if key != "cache" and first.get(key) != other.get(key)]
    return f" ({', '.join(differ)} differ)" if differ else " (the manifest, versions or weights differ)"


def _named(record: dict[str, Any]) -> str:
    return f"{record['shard']}/{record['of']}"


def _performance(records: Sequence[dict[str, Any]], rows: int) -> Performance:
    """Add up what the shard runs took; the rate is over the time from the first one's start to the last one's end."""
    found = [record["performance"] for record in records]
    seconds = max(record["ended"] for record in records) - min(record["started"] for record in records)
    names = dict.fromkeys(name for one in found for name in one["stage_seconds"])
    return Performance(
        encoded_images=sum(one["encoded_images"] for one in found),
        fallback_images=sum(one["fallback_images"] for one in found),
        images_per_second=rows / max(seconds, 1e-9),
        stage_seconds={name: sum(one["stage_seconds"].get(name, 0.0) for one in found) for name in names},
        peak_memory_bytes=max(one["peak_memory_bytes"] for one in found),
    )
