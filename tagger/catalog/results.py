"""Write results: shard parts that survive a crash, then one file that appears by an atomic rename.

A result that fails a gate is written aside instead, and what was at the output stays.

The protocol: every shard is written to a temporary file, flushed, re-opened and checked, and renamed to a name fixed by the
job and the shard; when all are there they are joined the same way and renamed to the result. A run that died at any moment
continues from the parts it left; parts of another job are thrown away, never mixed in. `failpoint` names the moments
between these steps, so that tests can die at each of them.
"""

from __future__ import annotations

import os
import shutil
import signal
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import suppress
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from tagger.catalog.job_description import JOB, changes, continues, describe_job, job_id_of, read_description
from tagger.catalog.manifest import Shard
from tagger.catalog.manifest_files import unreadable
from tagger.catalog.schemas import SET_TYPE, is_text, tagger_metadata
from tagger.catalog.sketch_files import SUFFIX, read_sketches, write_sketches
from tagger.catalog.truth import can_be_truth
from tagger.core import published, shutdown
from tagger.core.errors import ManifestError, StoppedError
from tagger.core.files import flush, reason, removed_on_failure, write_text, writing

PUBLISHED, REJECTED = "published", ".rejected.parquet"
FAILPOINTS = (
    "job-described",
    "part-written",
    "part-flushed",
    "part-renamed",
    "result-written",
    "result-flushed",
    "result-renamed",
    "parts-removed",
)


class Results:
    """The results of one job on their way to `output`, in the run folder beside it.

    job: what the result depends on, name -> value; its hash is the job's id. joined: whether another process has opened these
    results and parts are added to them; nothing is removed then. published: whether it is at the output. Raises StoppedError
    when the disk is full or cannot be written, or a part cannot be read.
    """

    def __init__(self, output: Path, folder: Path, schema: pa.Schema, job: Mapping[str, str], *, joined: bool = False) -> None:
        self.job_id, self._joined = job_id_of(job), joined
        self._output, self._folder, self._parts = output, folder, folder / "parts"
        self.schema = schema
        self.published = False
        # Its own name: were the lock to fail, as on some network disks, two runs would not write into one file.
        self._unfinished = self._parts / f"{uuid.uuid4().hex}.tmp"
        with writing(self.place):
            self._open(job)

    @property
    def place(self) -> Path | str:
        """Where the results will be, as a person names it."""
        return self._output

    def _open(self, job: Mapping[str, str]) -> None:
        """Keep the parts of this job that are there, and no others."""
        description, folder = self._parts / JOB, self._folder
        if self._joined:
            if differ := changes(read_description(description), job):
                raise StoppedError(
                    f"{self._parts}: expected the parts of this job, found others: {', '.join(differ)} changed; it must be a "
                    "folder that all machines share, and no other run may be on this result"
                )
            return
        if self._published() or (description.exists() and not continues(self._output, description, job)):
            discard_parts(folder)
        self._parts.mkdir(parents=True, exist_ok=True)
        for abandoned in self._parts.glob("*.tmp"):
            abandoned.unlink(missing_ok=True)
        describe_job(self._parts, job)
        failpoint("job-described")

    def collect(self, shard: Shard) -> None:
        """Take a part that another process has added. Raises StoppedError where it is not there."""
        if not self.is_done(shard):
            raise StoppedError(
                f"{self.place}: expected the part of rows {shard.start} to {shard.stop - 1}, which is said to be done, found "
                "none; the folder must be one that all machines share; nothing was published; run again to continue"
            )

    def is_done(self, shard: Shard) -> bool:
        """Tell whether an earlier run left this shard's part, whole."""
        try:
            with pq.ParquetFile(self._part(shard)) as part:
                return bool(part.metadata.num_rows == shard.stop - shard.start and part.schema_arrow.equals(self.schema))
        except (OSError, pa.ArrowException):
            return False

    def write(self, shard: Shard, table: pa.Table, sketches: NDArray[np.float16] | None = None) -> None:
        """Commit one shard as a file of one row group; sketches: of its images, float16 (N, S), kept beside it."""
        part = self._part(shard)
        with writing(self.place), removed_on_failure(self._unfinished) as temporary:
            if sketches is not None:
                write_sketches(part.with_suffix(SUFFIX), sketches)
            pq.write_table(table, temporary, compression="zstd", row_group_size=max(len(table), 1))
            failpoint("part-written")
            _check(temporary, len(table))
            failpoint("part-flushed")
            temporary.replace(part)
            flush(self._parts)
        failpoint("part-renamed")

    def sketches(self, shard: Shard) -> NDArray[np.float16] | None:
        """Return the sketches of a part's images, float16 (N, S); None where it has none."""
        return read_sketches(self._part(shard).with_suffix(SUFFIX), shard.stop - shard.start)

    def publish(
        self,
        shards: Iterable[Shard],
        accept: Callable[[], bool] = lambda: True,
        may_replace: Callable[[], bool] = lambda: True,
    ) -> Iterator[pa.Table]:
        """Join the parts, as the shards come, and yield each; after the last one publish the result.

        accept: asked then whether it may be published; else it is written aside. may_replace: asked just before the rename
        whether what is at the output may go. Where it may not, the result is written aside, too, and StoppedError raised: two
        systems rename over one name, and only the moment between the question and the rename, some microseconds, is left to
        chance.
        """
        rows = 0
        with removed_on_failure(self._unfinished.with_suffix(".joined.tmp")) as temporary:
            with writing(self.place):
                writer = pq.ParquetWriter(temporary, self.schema, compression="zstd")
            try:
                for shard in shards:  # what tagging or the caller raises is not about writing results
                    with writing(self.place):
                        table = self._read(shard)
                        writer.write_table(table, row_group_size=max(len(table), 1))
                    rows += len(table)
                    yield table
            except BaseException:
                with suppress(OSError):
                    writer.close()
                raise
            with writing(self.place):
                writer.close()
                failpoint("result-written")
                _check(temporary, rows)
                failpoint("result-flushed")
            accepted = accept()
            with writing(self.place):
                self._commit(temporary, accepted, may_replace)

    def _commit(self, temporary: Path, accepted: bool, may_replace: Callable[[], bool]) -> None:
        """Rename the whole, checked result to the output, or aside, and remove what is no longer needed."""
        aside = aside_of(self._output)
        target = self._output if accepted else aside
        if self._output.exists():
            shutil.copymode(self._output, temporary)
        shutdown.publishing()
        replaced = accepted and not may_replace()
        if replaced:
            accepted, target = False, aside
        if accepted:
            # A rename keeps this identity: whoever finds it at the output knows that this job was published.
            write_text(self._parts / PUBLISHED, _identity(temporary))
        temporary.replace(target)
        self.published = accepted
        published.note(f"the results are complete at {target}")
        failpoint("result-renamed")
        try:
            flush(self._output.parent)
            if accepted:
                aside.unlink(missing_ok=True)  # from an earlier run that was rejected
            discard_parts(self._folder)
        except OSError as error:
            raise StoppedError(
                f"{target}: the results are complete there; expected to flush their name to the disk and to remove "
                f"{self._parts}, found: {reason(error)}; check the disk"
            ) from error
        failpoint("parts-removed")
        if replaced:
            raise StoppedError(
                f"{self._output}: expected the manifest that was read, found another, which stays as it is; the results of the "
                f"one that was read are at {aside}; run again to tag the new one"
            )

    def _read(self, shard: Shard) -> pa.Table:
        part = self._part(shard)
        try:
            with pq.ParquetFile(part) as file:
                return file.read()
        except (OSError, pa.ArrowException) as error:
            raise StoppedError(
                f"{part}: expected rows {shard.start} to {shard.stop - 1} of the results, found: {reason(error)}; nothing was "
                "published; run again to continue, or with --fresh if that does not help"
            ) from error

    def _part(self, shard: Shard) -> Path:
        return self._parts / f"{self.job_id[:16]}-{shard.number:06d}.parquet"

    def _published(self) -> bool:
        try:
            return _identity(self._output) == (self._parts / PUBLISHED).read_text(encoding="utf-8")
        except (OSError, ValueError):
            return False


def aside_of(output: Path) -> Path:
    """Return where results go that were meant for this output and were rejected."""
    return output.with_name(f"{output.stem}{REJECTED}")


def discard_parts(folder: Path) -> None:
    """Remove the parts in this run folder; a crash on the way leaves nothing that could be taken for parts. Raises OSError."""
    parts, discarded = folder / "parts", folder / "discarded"
    for _ in range(2):  # the first time for what an earlier call may have left
        if discarded.exists():
            shutil.rmtree(discarded)
        if parts.exists():
            parts.rename(discarded)


def _identity(path: Path) -> str:
    found = path.stat()
    return f"{found.st_dev} {found.st_ino} {found.st_size} {found.st_mtime_ns}"


def _check(path: Path, rows: int) -> None:
    """Flush a Parquet file to the disk, open it again and count its rows."""
    flush(path)
    if (found := pq.read_metadata(path).num_rows) != rows:
        raise OSError(f"{rows} rows were written, {found} are in {path}")


def failpoint(name: str) -> None:
    """Die here as if the power failed, if the environment names this moment (tests/reliability)."""
    if os.environ.get("TAGGER_FAILPOINT") == name:
        os.kill(os.getpid(), signal.SIGKILL)


def open_results(path: Path) -> pq.ParquetFile:
    """Open a file that a run of tagger wrote. Raises ManifestError if it is none."""
    try:
        file = pq.ParquetFile(path)
    except (pa.ArrowException, OSError) as error:
        raise unreadable(path, error) from error
    described = tagger_metadata(file.schema_arrow)
    if "attributes" not in described:
        raise ManifestError(f"{path}: expected results of tagger, found a Parquet file without them; tag it with tagger run")
    schema = file.schema_arrow
    for item in described["attributes"]:
        tags, truth = (f"{item['name']}_label", f"{item['name']}_source"), item["truth_column"]
        for column in (*tags, *filter(None, [truth])):
            there = schema.get_field_index(column) >= 0
            if not there or not (is_text(schema.field(column).type) or (column == truth and can_be_truth(schema, column))):
                raise ManifestError(f"{path}: expected a text column {column}, as its metadata says, found none; tag it again")
        column = f"{item['name']}_set"
        if "prediction_sets" in item and (schema.get_field_index(column) < 0 or schema.field(column).type != SET_TYPE):
            raise ManifestError(f"{path}: expected a column {column} of sets, as its metadata says, found none; tag it again")
        column = f"{item['name']}_known"
        if "unknown" in item and (schema.get_field_index(column) < 0 or schema.field(column).type != pa.float32()):
            raise ManifestError(f"{path}: expected a column {column} of scores, as its metadata says, found none; tag it again")
    return file
