"""What a run is going to do: manifest, attributes, places, all checked before any model is loaded."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from tagger.catalog.manifest import Manifest
from tagger.catalog.object_storage import Workspace, kind
from tagger.catalog.outputs import choose_output, run_folder
from tagger.catalog.results import open_results
from tagger.catalog.retry import open_earlier
from tagger.catalog.sandbox import read_elsewhere
from tagger.core.errors import ManifestError, UsageError
from tagger.core.urls import is_object_url
from tagger.evaluation.gates import gate_thresholds
from tagger.inference.job import Job, check_job
from tagger.settings.schema import Settings

log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class Plan(Job):
    """A job of which the first `rows` are tagged; results go to `output`.

    url: the object that they are put at from there. earlier: the result whose error rows alone are tried again, with its tag
    columns. previous: the result of an earlier night, or its copy; previous_place: as a person names it. gates: threshold of
    each that is judged; max_errors in rows.
    """

    output: Path
    url: str | None
    rows: int
    earlier: Manifest | None
    previous: Path | None
    previous_place: Path | str | None
    gates: Mapping[str, float]

    @property
    def place(self) -> Path | str:
        """Where the results will be, as a person names it."""
        return self.url or self.output

    @property
    def run_folder(self) -> Path:
        return run_folder(self.output)


def make_plan(
    name: str,
    settings: Settings,
    space: Workspace,
    *,
    labels: Sequence[str] | None,
    output: str | Path | None,
    limit: int | None,
    overwrite: bool,
    in_place: bool,
    retry_errors: str | Path | None,
    previous: str | Path | None,
    max_errors: int | str | None,
) -> Plan:
    """Open the manifest, its objects copied to `space`, and check everything against it.

    Raises ManifestError, ConfigError, UsageError, StoppedError.
    """
    job = check_job(name, settings, space, labels)
    manifest = job.manifest
    rows = manifest.rows if limit is None else min(limit, manifest.rows)
    earlier = None
    if retry_errors is not None:
        if in_place or rows != manifest.rows:
            raise UsageError(f"--retry-errors: expected it without {'--in-place' if in_place else '--limit'}; leave one out")
        result = space.local(retry_errors)
        read_elsewhere(result)
        earlier = open_earlier(result, manifest)
    objects = [space.urls[file] for file in manifest.files if file in space.urls]
    target = choose_output(name, manifest, objects, output, limit, overwrite, in_place)
    place = target if previous is None else previous
    found = _open_previous(place, space, manifest, required=previous is not None)
    return Plan(
        **vars(job),
        output=target if isinstance(target, Path) else space.folder / "results.parquet",
        url=None if isinstance(target, Path) else target,
        rows=rows,
        earlier=earlier,
        previous=found,
        previous_place=place if found else None,
        gates=gate_thresholds(settings.gates, job.attributes, max_errors, rows),
    )


def _open_previous(place: Path | str, space: Workspace, manifest: Manifest, required: bool) -> Path | None:
    """The result of an earlier night, readable here; without one ManifestError if it is required, else None."""
    try:
        if not required and (kind(str(place)) is None if is_object_url(place) else not Path(place).exists()):
            return None
        path = space.local(place)
        if path.resolve() not in {file.resolve() for file in manifest.files}:  # in place: it has been checked
            read_elsewhere(path)
        open_results(path).close()
    except (ManifestError, OSError):
        if required:
            raise
        return None
    return path
