"""A plan carried out: what an interrupted run has not done is tagged, then all is judged, and published or written aside."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime

import pyarrow as pa

from tagger.catalog.manifest import Shard
from tagger.catalog.object_storage import put
from tagger.catalog.remote_results import StoredResults, aside_url, run_url
from tagger.catalog.results import Results, aside_of
from tagger.catalog.tags import status_counts
from tagger.core import shutdown
from tagger.core.errors import GateError, StoppedError
from tagger.core.files import reason, write_text
from tagger.evaluation.changes import LabelChanges, compare_with
from tagger.evaluation.gates import Figures, judge
from tagger.evaluation.metrics import Evaluator
from tagger.reports.summary import RunSummary
from tagger.workflows.plan import Plan

log = logging.getLogger(__name__)


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
            shutdown.check()
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
