"""The results of a run are counted, evaluated and judged, then published or written aside, and its summary beside them."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from tagger.catalog.embedding_moments import keep_moments
from tagger.catalog.manifest import Shard
from tagger.catalog.object_storage import put
from tagger.catalog.remote_results import StoredResults, aside_url, run_url
from tagger.catalog.results import REJECTED, Results, aside_of
from tagger.catalog.sketch_files import REJECTED_SKETCHES, SKETCHES, read_sketches, write_sketches
from tagger.catalog.tags import status_counts
from tagger.core import shutdown
from tagger.core.errors import StoppedError
from tagger.core.files import reason, write_text
from tagger.evaluation.changes import Changed, LabelChanges, Unreadable, compare_with
from tagger.evaluation.distributions import Distributions, read_distributions
from tagger.evaluation.drift import NO_EARLIER, Drift, compare_nights
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
    """What is known of the earlier result before it is replaced; a text says why there is nothing to compare with."""

    labels: LabelChanges | str
    distributions: Distributions | str


def open_parts(plan: Plan, schema: pa.Schema, depends_on: Mapping[str, str]) -> Results:
    """Return the results of the plan on their way, with the parts that an interrupted run of the same job has left."""
    if plan.url is None:
        return Results(plan.output, plan.run_folder, schema, depends_on)
    return StoredResults(plan.output, plan.run_folder, schema, depends_on, plan.url)


def read_previous(plan: Plan) -> Previous:
    """Read the earlier result; texts say why there is nothing to compare with."""
    if plan.previous is None:
        return Previous(NO_EARLIER, NO_EARLIER)
    if isinstance(plan.previous, Unreadable):
        log.warning("changed labels are not counted, nor drift measured: %s", plan.previous)
        return Previous(plan.previous, plan.previous)
    manifest, id_column = plan.job.manifest, plan.job.settings.manifest.id_column
    names = [attribute.name for attribute in plan.job.attributes]
    compared = compare_with(plan.previous, manifest.schema, id_column or manifest.image_column, names)
    if isinstance(compared, str):
        log.log(
            logging.WARNING if isinstance(compared, Unreadable) else logging.INFO, "changed labels are not counted: %s", compared
        )
    if plan.rows < manifest.rows:
        return Previous(compared, f"only the first {plan.rows} of {manifest.rows} rows were tagged")
    distributions = read_distributions(plan.previous, names)
    if isinstance(distributions, str):
        log.warning("drift is not measured: %s", distributions)
    return Previous(compared, distributions)


def publish(results: Results, shards: Iterable[Shard], plan: Plan, previous: Previous) -> Outcome:
    """Publish the results if they pass the gates, counting, evaluating and judging exactly what is published.

    shards: all, in order, each when its part is there: what is done is joined while the rest is tagged.
    """
    truths = {one.name: (one.truth_column, one.label_names) for one in plan.job.attributes if one.truth_column}
    sets = {one.name: one.prediction_sets for one in plan.job.attributes if one.truth_column and one.prediction_sets}
    evaluator, counts = Evaluator(truths, sets, plan.job.with_unknown), Counter[str]()
    found = Distributions({one.name: one.label_names for one in plan.job.attributes})
    labels = previous.labels
    evaluation: Evaluation | None = None
    drift = Drift()
    gates: Sequence[GateResult] = ()
    sketches: NDArray[np.float16] | None = None

    manifest = plan.job.manifest

    def joined() -> Iterator[Shard]:
        """Yield the shards, and gather their sketches, NaN for those of a part that has none."""
        nonlocal sketches
        for shard in shards:
            if (part := results.sketches(shard)) is not None:
                if sketches is None:
                    sketches = np.full((plan.rows, part.shape[1]), np.nan, np.float16)
                sketches[shard.start : shard.stop] = part
            yield shard

    def accept() -> bool:
        nonlocal evaluation, drift, gates
        manifest.held.require_unchanged()
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
        gates = judge(plan.gates, figures, plan.job.settings.gates.min_truth_in_labels)
        return all(gate.passed for gate in gates)

    def may_replace() -> bool:
        in_place = plan.output == manifest.files[0].resolve()
        return not in_place or manifest.held.is_still(plan.output, manifest.digests[0])

    for table in results.publish(joined(), accept, may_replace):
        shutdown.check()
        evaluator.update(table)
        found.update(table)
        if not isinstance(labels, str):
            labels.update(table)
        counts.update(status_counts(table))
    evaluator.log()
    if sketches is not None:
        _keep_sketches(plan, sketches, results.published)
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


def _keep_sketches(plan: Plan, sketches: NDArray[np.float16], published: bool) -> None:
    """Keep the sketches of the images in the run folder, those of rejected results apart from those of published ones.

    Rows whose tags are an earlier result's keep the sketches that they had. Without them a report lacks a section: that they
    cannot be written ends nothing.
    """
    if plan.earlier is not None:
        rejected = plan.earlier.name.endswith(REJECTED)
        earlier = read_sketches(plan.run_folder / (REJECTED_SKETCHES if rejected else SKETCHES), len(sketches))
        if earlier is not None and earlier.shape == sketches.shape:
            sketches = np.where(np.isnan(sketches), earlier, sketches)
    path = plan.run_folder / (SKETCHES if published else REJECTED_SKETCHES)
    try:
        write_sketches(path, sketches)
        if published:
            (plan.run_folder / REJECTED_SKETCHES).unlink(missing_ok=True)  # gone with the results that they were of
    except OSError as error:
        log.warning("%s: expected to write the sketches of images, found: %s; the results are complete", path, reason(error))


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
