"""Read Parquet files of strangers whole in a process of its own, before this one opens them.

A file can crash its reader (pyarrow aborts the process on some footers), keep it busy, or unpack a few hundred bytes to any
size. All of that happens to the other process, whose memory and time are limited; what it has read to the end, every value
checked, does nothing of the kind here. It costs one reading, and the start of a Python with pyarrow, which `start_reading`
lets happen while this process imports what it needs. Imports nothing heavy.
"""

from __future__ import annotations

import atexit
import json
import os
import resource
import signal
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tagger.core.errors import ManifestError, StoppedError
from tagger.core.memory import limit_address_space

if TYPE_CHECKING:
    from collections.abc import Mapping

    import pyarrow as pa
    import pyarrow.parquet as pq

# A shard or two in memory: images hardly shrink when packed, so what an honest file needs follows its size.
MEMORY, MEMORY_PER_BYTE, MAX_MEMORY = 512 << 20, 8, 8 << 30
SECONDS, BYTES_PER_SECOND = 60, 4 << 20  # of one core
ROWS, ROWS_PER_BYTE = 1_000_000, 100

_started: dict[str, subprocess.Popen[str]] = {}  # by `_key`: who starts and who waits may write one name in two ways


def start_reading(name: str | Path) -> None:
    """Start what `read_elsewhere` will wait for: a Parquet file, a folder of them or a glob is read in another process."""
    key = _key(name)
    if key in _started:
        return
    # The system's allocator says what it cannot get, and there are no threads: the limits mean the same on every machine.
    environment = {**os.environ, "ARROW_DEFAULT_MEMORY_POOL": "system", "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
    _started[key] = subprocess.Popen(
        [sys.executable, "-c", f"from {__name__} import main; main()", str(name)],
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        encoding="utf-8",
        errors="replace",
    )


def read_elsewhere(name: str | Path) -> list[list[int]]:
    """Wait until a file, a folder of them or a glob has been read to the end in another process; return the files' identities.

    Raises ManifestError where it cannot be, or not within the limits, StoppedError where a file changed meanwhile.
    """
    start_reading(name)
    process = _started.pop(_key(name))
    try:
        output, errors = process.communicate()
    finally:
        _end(process)
    require_success(str(name), process.returncode, output, errors)
    identities: list[list[int]] = json.loads(output.splitlines()[-1])
    return identities


def _key(name: str | Path) -> str:
    """Return the absolute path; a ".." in it stays, as what it leads to depends on links."""
    return str(Path(name).absolute())


def _end(process: subprocess.Popen[str]) -> None:
    with process:  # closes its pipes and waits for it
        process.kill()


@atexit.register
def _end_started() -> None:
    """End what nobody has waited for: a run that stops early leaves nothing behind."""
    for process in _started.values():
        _end(process)


def require_success(name: str, code: int, output: str, errors: str) -> None:
    """Raise a ManifestError unless the process that ran `main` on these files ended well.

    code: its exit code, negative for a signal. output, errors: what it wrote to stdout and stderr.
    """
    if code == 0:
        return
    last = (output.splitlines() or [name])[-1]
    if code == ManifestError.exit_code:
        raise ManifestError(last)
    if code == StoppedError.exit_code:
        raise StoppedError(last)
    reason = (errors.strip().splitlines() or [""])[-1].strip().removeprefix("what():").strip().rstrip(".")
    if code > 0:
        raise RuntimeError(f"the check of {last} failed: {reason}")
    if -code == signal.SIGXCPU:
        found = "one that takes more time to read than its size allows"
    else:
        found = f"one that crashes its reader ({signal.Signals(-code).name}{f': {reason}' if reason else ''})"
    raise ManifestError(f"{last}: expected a readable Parquet file, found {found}; write the file again")


def main() -> None:
    """Read the files named on the command line, within limits. The last line of stdout is the file at hand, or what is wrong."""
    sys.exit(read_all(sys.argv[1]))


def read_all(name: str) -> int:
    """Limit this process and read these files to the end; return 0, or the exit code of a ManifestError."""
    import pyarrow.parquet as pq

    from tagger.catalog.manifest import bytes_per_row, hold_files, rows_per_shard
    from tagger.catalog.manifest_files import find_files, unreadable
    from tagger.catalog.partitions import partition_of
    from tagger.catalog.unified_schema import unify_schemas

    path, memory = Path(name), 0
    try:
        found = find_files(name)
        sizes = [file.stat().st_size for file in found.files]
        memory = min(MEMORY + MEMORY_PER_BYTE * max(sizes), MAX_MEMORY)
        _limit(memory, SECONDS + sum(sizes) // BYTES_PER_SECOND)
        footers, schemas = [], []
        held = hold_files(found.files)
        for number, (path, size) in enumerate(zip(found.files, sizes, strict=True)):
            _print_line(str(path))
            with held.open(number) as name_of_it, pq.ParquetFile(name_of_it) as file:
                footers.append(_footer(path, size, file))
                schemas.append(file.schema_arrow)
        schema, _ = unify_schemas(found.files, schemas, found.partitions, [footer.num_rows for footer in footers])
        rows = rows_per_shard(bytes_per_row(footers))
        for number, path in enumerate(found.files):
            _print_line(str(path))
            with held.open(number) as name_of_it:
                _read(path, name_of_it, rows, schema, partition_of(found.partitions, number))
        _print_line(json.dumps(held.identities))
    except (ManifestError, StoppedError) as error:
        _print_line(str(error))
        return error.exit_code
    except MemoryError:
        _print_line(
            f"{path}: expected a Parquet file whose shards fit in {memory >> 20} MB, as its size lets expect, found one that "
            "unpacks to more; write it with fewer or smaller values"
        )
    except Exception as error:  # noqa: BLE001  # whatever a reader raises, the file is not one to go on with
        _print_line(str(unreadable(path, error)))
    else:
        return 0
    return ManifestError.exit_code


def _limit(memory: int, seconds: int) -> None:
    """Allow this process these bytes on top of what it has, these seconds of one core, and no core dump."""
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_CPU, (seconds, seconds))
    limit_address_space(memory)


def _print_line(line: str) -> None:
    os.write(1, f"{line}\n".encode(errors="backslashreplace"))  # at once: the next step may be the last


def _footer(path: Path, size: int, file: pq.ParquetFile) -> pq.FileMetaData:
    """Return the footer after touching every part of it that `open_manifest` touches."""
    footer = file.metadata
    if footer.num_rows > ROWS + ROWS_PER_BYTE * size:
        raise ManifestError(
            f"{path}: expected at most {ROWS_PER_BYTE} rows a byte, found {footer.num_rows:,} rows in {size:,} bytes; write "
            "the file again"
        )
    for group in map(footer.row_group, range(footer.num_row_groups)):
        for chunk in map(group.column, range(group.num_columns)):
            _ = chunk.path_in_schema, chunk.statistics and chunk.statistics.null_count
    return footer


def _read(path: Path, opened: str, rows: int, schema: pa.Schema, partition: Mapping[str, Any]) -> None:
    """Read a file in batches of these rows, and check every value, and that it has its place in the manifest's schema."""
    import pyarrow.parquet as pq

    from tagger.catalog.manifest import READ_BUFFER
    from tagger.catalog.unified_schema import conform

    with pq.ParquetFile(opened, buffer_size=READ_BUFFER, pre_buffer=False) as file:
        expected, found = file.metadata.num_rows, 0
        for batch in file.iter_batches(rows, use_threads=False):
            batch.validate(full=True)
            conform(batch, schema, partition, path)
            found += len(batch)
    if found != expected:
        raise ManifestError(f"{path}: expected the {expected} rows of its footer, found {found}; write the file again")
