"""A process that tags shards of somebody's run: it opens the job for itself, and leaves parts where that run wants them."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import pyarrow as pa

from tagger.catalog.manifest import Manifest, Shard
from tagger.catalog.object_storage import Workspace
from tagger.catalog.outputs import run_folder
from tagger.catalog.remote_results import StoredResults
from tagger.catalog.results import Results
from tagger.catalog.retry import open_earlier
from tagger.catalog.sharding import job_folder
from tagger.inference.dispatch import Done, MakeWorker, Tell
from tagger.inference.fingerprints import Description, describe, result_schema_of
from tagger.inference.job import Job, open_job
from tagger.inference.load import open_engine
from tagger.inference.local_engine import LocalEngine
from tagger.settings.options import Machine, Output
from tagger.settings.schema import Settings
from tagger.workflows.plan import Plan


@dataclass(frozen=True, kw_only=True)
class Task:
    """What a process has to know of a run's plan. by_hand: parts are left for a merge. folder: the one that the run works in."""

    manifest: str
    settings: Settings
    rows: int
    earlier: str | Path | None
    output: Path
    url: str | None
    by_hand: bool
    folder: Path


class ShardWorker:
    """Tags shards with the engine of this process."""

    def __init__(self, task: Task, job: Job, engine: LocalEngine, earlier: Manifest | None, scratch: Path) -> None:
        self._task, self._job, self._engine, self._earlier, self._scratch = task, job, engine, earlier, scratch
        self._results: Results | None = None
        self.description: Description = describe(job, task.rows, engine.predictor, engine.hybrid, earlier)

    def tag(self, shards: Iterable[Shard], tell: Tell) -> None:
        """Tag these shards, in ascending order, and leave their parts; tell each, and the rows in between."""
        if self._results is None:
            self._results = self._join(result_schema_of(self._job, self.description.model))
        results, stages = self._results, self._engine.stages
        for shard, table, sketches in self._engine.tag(self._job.manifest, results.schema, shards, tell, self._earlier):
            results.write(shard, table, sketches)
            tell(Done(shard, stages))

    def _join(self, schema: pa.Schema) -> Results:
        depends_on, url = self.description.depends_on, self._task.url
        if url is None:
            folder = run_folder(self._task.output)
            folder = job_folder(folder, depends_on) if self._task.by_hand else folder
            return Results(self._task.output, folder, schema, depends_on, joined=True)
        output = self._scratch / "results.parquet"
        return StoredResults(output, run_folder(output), schema, depends_on, url, joined=True)


def worker_of(plan: Plan, output: Output) -> MakeWorker:
    """Return what opens a worker for this plan in another process."""
    name = plan.job.manifest.name
    task = Task(
        manifest=name if "://" in name else os.path.abspath(name),  # noqa: PTH100  # a glob is no path
        settings=plan.job.settings,
        rows=plan.rows,
        earlier=output.retry_errors,
        output=plan.output,
        url=plan.url,
        by_hand=output.shard is not None,
        folder=Path.cwd(),
    )
    return partial(_open, task)


@contextmanager
def _open(task: Task, machine: Machine) -> Iterator[ShardWorker]:
    """Open the manifest and the models of a task. Raises the errors of core/errors.py."""
    with suppress(OSError):  # on another machine it may not be there; then no relative path can be meant
        os.chdir(task.folder)
    with Workspace() as space:
        job = open_job(task.manifest, task.settings, space)
        earlier = None
        if task.earlier is not None:
            earlier = open_earlier(space.local(task.earlier), job.manifest)
            space.callback(earlier.held.close)
        with open_engine(job, machine, rows=task.rows) as engine:
            yield ShardWorker(task, job, engine, earlier, space.folder)
