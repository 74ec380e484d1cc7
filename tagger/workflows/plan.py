"""What a run is going to do with a job: which rows, compared with what, written where; checked before any model is loaded."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from tagger.catalog.manifest import Manifest
from tagger.catalog.object_storage import Workspace, kind
from tagger.catalog.outputs import choose_output, run_folder
from tagger.catalog.results import open_results
from tagger.catalog.retry import open_earlier
from tagger.catalog.sandbox import read_elsewhere
from tagger.catalog.schemas import require_no_tags
from tagger.core.errors import ManifestError, UsageError
from tagger.core.urls import is_object_url
from tagger.evaluation.changes import Unreadable
from tagger.evaluation.gates import gate_thresholds
from tagger.inference.job import Job
from tagger.settings.options import Output


@dataclass(frozen=True, kw_only=True)
class Plan:
    """The first `rows` of the job's manifest are tagged, and results go to `output`.

    url: the object that they are put at from there. earlier: the result whose error rows alone are tried again, with its tag
    columns. previous: the result of an earlier night, or its copy, or why it cannot be read; previous_place: as a person names
    it. gates: the threshold of each that is judged; max_errors in rows.
    """

    job: Job
    output: Path
    url: str | None
    rows: int
    earlier: Manifest | None
    previous: Path | Unreadable | None
    previous_place: Path | str | None
    gates: Mapping[str, float]

    @property
    def place(self) -> Path | str:
        """Where the results will be, as a person names it."""
        return self.url or self.output

    @property
    def run_folder(self) -> Path:
        """The folder beside the results with what is said about them."""
        return run_folder(self.output)


def make_plan(job: Job, space: Workspace, output: Output) -> Plan:
    """Check where the results of the job go and what they are compared with; raises ManifestError, UsageError, StoppedError."""
    manifest = job.manifest
    require_no_tags(
        manifest.name, manifest.schema, [attribute.name for attribute in job.attributes], job.with_sets, job.with_unknown
    )
    rows = manifest.rows if output.limit is None else min(output.limit, manifest.rows)
    earlier = None
    if output.retry_errors is not None:
        if rows != manifest.rows:
            raise UsageError("--retry-errors: expected it without --limit; leave one out")
        result = space.local(output.retry_errors)
        read_elsewhere(result)
        earlier = open_earlier(result, manifest)
        space.callback(earlier.held.close)
    objects = [space.urls[file] for file in manifest.files if file in space.urls]
    target = choose_output(manifest, objects, output.path, output.overwrite, output.in_place)
    place = target if output.previous is None else output.previous
    found = _open_previous(place, space, manifest, required=output.previous is not None)
    return Plan(
        job=job,
        output=target if isinstance(target, Path) else space.folder / "results.parquet",
        url=None if isinstance(target, Path) else target,
        rows=rows,
        earlier=earlier,
        previous=found,
        previous_place=place if found is not None else None,
        gates=gate_thresholds(job.settings.gates, job.attributes, rows),
    )


def _open_previous(place: Path | str, space: Workspace, manifest: Manifest, required: bool) -> Path | Unreadable | None:
    """Return the result of an earlier night, readable here, or why it is not; None where there is none.

    Raises ManifestError, OSError instead where it is required.
    """
    try:
        if not required and (kind(str(place)) is None if is_object_url(place) else not Path(place).exists()):
            return None
        path = space.local(place)
        if path.resolve() not in {file.resolve() for file in manifest.files}:  # in place: it has been checked
            read_elsewhere(path)
    except (ManifestError, OSError) as error:
        if required:
            raise
        return Unreadable(error)
    try:
        open_results(path).close()
    except ManifestError:
        if required:
            raise
        return None  # a whole Parquet file that no run of tagger wrote, such as a manifest that is tagged in place
    return path
