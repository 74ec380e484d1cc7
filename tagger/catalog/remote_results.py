"""Write results on an object store: every part is put as it is committed, and the result by one last put.

An object store has no rename, but a put shows an object whole or not at all, and all three stores list and read at once what
was put. So the run works in a scratch folder as it does on a disk, and this protocol carries its work to the store:

1. `<stem>.run/parts/job.json` says whose parts are there; parts of another job are removed.
2. A part that is complete and checked on the disk is put under its fixed name, made of the job's id and the shard's number.
   Whoever runs the same job again, on any machine, copies the parts that are there and computes the others.
3. The joined result, complete and checked on the disk, is put at the output: this one put is the commit. The result lists
   every part in its own row groups, so there is no listing beside it that could be believed without it.
4. The parts are removed, and summary.json is put.

Nothing keeps two runs apart on a store, and nothing has to: each publishes the parts of its own job that it has on its own
disk, whatever the other puts or removes; the result that is put last stands, whole. Two runs of one job write the same bytes on
the same kind of machine, so there it does not matter which is last.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from tagger.catalog import object_storage
from tagger.catalog.job_description import JOB, continues
from tagger.catalog.manifest import Shard
from tagger.catalog.results import Results, aside_of, failpoint
from tagger.core import published, shutdown
from tagger.core.errors import StoppedError
from tagger.core.files import writing

log = logging.getLogger(__name__)

FAILPOINTS = ("stored-job-described", "stored-part", "stored-result", "stored-parts-removed")


class StoredResults(Results):
    """The results of one job on their way to `url`; `output` and `folder` are in the scratch folder.

    Raises StoppedError when the disk or the store cannot be written.
    """

    def __init__(
        self, output: Path, folder: Path, schema: pa.Schema, job: Mapping[str, str], url: str, *, joined: bool = False
    ) -> None:
        self._url, self._parts_url = url, f"{run_url(url)}/parts"
        super().__init__(output, folder, schema, job, joined=joined)

    @property
    def place(self) -> str:
        return self._url

    def _open(self, job: Mapping[str, str]) -> None:
        """Copy the parts of this job that an earlier run left on the store, and remove those of another."""
        url, folder = self._url, self._folder
        if self._joined:
            self._parts.mkdir(parents=True, exist_ok=True)
            if JOB in object_storage.list_folder(self._parts_url):
                object_storage.get(self._parts_url, [JOB], self._parts)
            super()._open(job)
            return
        super()._open(job)
        names = object_storage.list_folder(self._parts_url)
        if JOB in names:
            object_storage.get(self._parts_url, [JOB], folder)
        if names and not continues(url, folder / JOB, job):
            discard_stored(url)
            names = []
        object_storage.put(self._parts / JOB, f"{self._parts_url}/{JOB}")
        failpoint("stored-job-described")
        # Only these names can be parts of this job, and no name that a stranger put there becomes a path on this disk.
        whole = re.compile(rf"{self.job_id[:16]}-\d{{6}}\.parquet")
        object_storage.get(self._parts_url, [name for name in names if whole.fullmatch(name)], self._parts)

    def collect(self, shard: Shard) -> None:
        """Copy a part that another process has added."""
        with writing(self.place):
            object_storage.get(self._parts_url, [self._part(shard).name], self._parts)
        super().collect(shard)

    def write(self, shard: Shard, table: pa.Table, sketches: NDArray[np.float16] | None = None) -> None:
        super().write(shard, table)  # the sketches are for the run folder, which is not kept on a store
        part = self._part(shard)
        with writing(self.place):
            object_storage.put(part, f"{self._parts_url}/{part.name}")
        failpoint("stored-part")

    def _commit(self, temporary: Path, accepted: bool, may_replace: Callable[[], bool]) -> None:
        shutdown.check()
        target = self._url if accepted else aside_url(self._url)
        try:
            object_storage.put(temporary, target)
        except OSError as error:
            raise StoppedError(
                f"{target}: expected to write results, found: {error}; they appear whole or not at all, and their "
                "parts are kept; run again to continue"
            ) from error
        shutdown.too_late = True  # not sooner: a large upload takes longer than the sender of a signal waits
        self.published = accepted
        published.note(f"the results are complete at {target}")
        temporary.replace(self._output)  # here, for whoever looks at them again
        failpoint("stored-result")
        if accepted:
            _discard_aside(aside_url(self._url))
        discard_stored(self._url)
        failpoint("stored-parts-removed")


def run_url(output: str) -> str:
    """Return the URL of the run folder beside this output."""
    parent, _, name = output.rpartition("/")
    return f"{parent}/{Path(name).stem}.run"


def aside_url(output: str) -> str:
    """Return the URL where results go that were meant for this output and were rejected."""
    parent, _, name = output.rpartition("/")
    return f"{parent}/{aside_of(Path(name))}"


def _discard_aside(url: str) -> None:
    """Remove rejected results that an earlier run may have left."""
    try:
        if object_storage.kind(url) is not None:
            object_storage.remove(url.rpartition("/")[0], [url.rpartition("/")[2]])
    except OSError as error:
        log.warning("%s: expected to remove rejected results, found: %s; remove them yourself", url, error)


def discard_stored(output: str) -> None:
    """Remove the parts that a run left beside this output, or warn: those that stay are in nobody's way."""
    parts = f"{run_url(output)}/parts"
    try:
        object_storage.remove(
            parts, [name for name in object_storage.list_folder(parts) if name == JOB or name.endswith(".parquet")]
        )
    except OSError as error:
        log.warning("%s: expected to remove the parts of a run, found: %s; remove them yourself", parts, error)
