"""The results of a run are counted, evaluated and judged, then published or written aside, and its summary beside them."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import pyarrow as pa

from tagger.catalog.embedding_moments import keep_moments
from tagger.catalog.manifest import Shard
from tagger.catalog.object_storage import put
from tagger.catalog.remote_results import StoredResults, aside_url, run_url
from tagger.catalog.results import Results, aside_of
from tagger.catalog.tags import status_counts
from tagger.core import shutdown
from tagger.core.errors import StoppedError
from tagger.core.files import reason, write_text
from tagger.evaluation.changes import NO_EARLIER, Changed, LabelChanges, NotCompared, compare_with
from tagger.evaluation.distributions import Distributions, read_distributions
from tagger.evaluation.drift import Drift, compare_nights
from tagger.evaluation.gates import Figures, GateResult, judge
from tagger.evaluation.metrics import Evaluation, Evaluator
from tagger.reports.summary import RunSummary
from tagger.workflows.plan import Plan

log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What came of a run's results, by the names of RunSummary."""

    published: bool
    output: Path | str
    tagged: int
    review: int
    errors: Counter[str]
    evaluation: Evaluation | None
    changed_labels: Mapping[str, Changed]
    drift: Drift
    gates: Sequence[GateResult]


class Previous(NamedTuple):
    """What is known of the earlier result before it is replaced, or why there is nothing to compare with."""

    labels: LabelChanges | str
    distributions: Distributions | NotCompared


def open_parts(plan: Plan, schema: pa.Schema, depends_on: Mapping[str, str]) -> Results:
    """Return the results of the plan on their way, with the parts that an interrupted run of the same job has left."""
    if plan.url is None:
        return Results(plan.output, plan.run_folder, schema, depends_on)
    return StoredResults(plan.output, plan.run_folder, schema, depends_on, plan.url)


def read_previous(plan: Plan) -> Previous:
    """Read the earlier result. Raises StoppedError."""
    if plan.previous is None:
        return Previous(NO_EARLIER.reason, NO_EARLIER)
    manifest, id_column = plan.job.manifest, plan.job.settings.manifest.id_column
    names = [attribute.name for attribute in plan.job.attributes]
    compared = compare_with(plan.previous, manifest.schema, id_column or manifest.image_column, names)
    if isinstance(compared, str):
        log.info("changed labels are not counted: %s", compared)
    if plan.rows < manifest.rows:
        return Previous(compared, NotCompared(f"only the first {plan.rows} of {manifest.rows} rows were tagged"))
    distributions = read_distributions(plan.previous, names)
    if isinstance(distributions, NotCompared):
        log.warning("drift is not measured: %s", distributions.reason)
    return Previous(compared, distributions)


def publish(results: Results, shards: Sequence[Shard], plan: Plan, previous: Previous) -> Outcome:
    """Publish the results if they pass the gates, counting, evaluating and judging exactly what is published."""
    truths = {one.name: (one.truth_column, one.label_names) for one in plan.job.attributes if one.truth_column}
    evaluator, counts = Evaluator(truths), Counter[str]()
    found = Distributions({one.name: one.label_names for one in plan.job.attributes})
    labels = previous.labels
    evaluation: Evaluation | None = None
    drift = Drift()
    gates: Sequence[GateResult] = ()

    def accept() -> bool:
        nonlocal evaluation, drift, gates
        drift = compare_nights(previous.distributions, found)
        evaluation = evaluator.result() if truths else None
        figures = Figures(
            rows=plan.rows,
            errors=counts.total() - counts["tagged"] - counts["review"],
            review=counts["review"],
            evaluation=evaluation,
            changed=labels if isinstance(labels, str) else labels.counts,
            drift=drift,
        )
        gates = judge(plan.gates, figures)
        return all(gate.passed for gate in gates)

    for table in results.publish(shards, accept):
        shutdown.check()
        evaluator.update(table)
        found.update(table)
        if not isinstance(labels, str):
            labels.update(table)
        counts.update(status_counts(table))
    for line in drift.warnings():
        log.warning("drift since %s: %s", plan.previous_place, line)
    if results.published and plan.url is None:
        keep_moments(plan.output, found.embeddings)
    aside = aside_of(plan.output) if plan.url is None else aside_url(plan.url)
    return Outcome(
        published=results.published,
        output=plan.place if results.published else aside,
        tagged=counts.pop("tagged", 0),
        review=counts.pop("review", 0),
        errors=counts,
        evaluation=evaluation,
        changed_labels={} if isinstance(labels, str) else labels.counts,
        drift=drift,
        gates=gates,
    )


def write_summary(plan: Plan, summary: RunSummary) -> None:
    """Write summary.json beside the results; raises StoppedError, which says that they are complete."""
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
