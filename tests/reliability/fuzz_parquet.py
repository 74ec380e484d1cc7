"""Feed broken and hostile Parquet files to the check and, where it lets them through, to the readers behind it.

    python tests/reliability/fuzz_parquet.py --count 10000 --seed 1

Every file must be refused with one line of a ManifestError, or be read as a manifest or a result without a crash, within the
memory and the time given here. Prints a count of each outcome. Ends with 1 if there was any other, and leaves the files that
caused it in --keep. Each file is read by a process forked from this one, which itself reads none.
"""

from __future__ import annotations

import argparse
import collections
import os
import pickle
import random
import resource
import signal
import sys
import tempfile
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

os.environ |= {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "ARROW_DEFAULT_MEMORY_POOL": "system"}

from parquet_mutations import mutate
from parquet_seeds import make_bombs, make_large_bombs, make_seeds

from tagger.catalog.manifest import open_manifest
from tagger.catalog.sandbox import read_all, require_success
from tagger.core.errors import TaggerError
from tagger.workflows import evaluate as stored

READER_MEMORY = 2 << 30  # what a file that was let through may take here, with all copies
SECONDS = 100  # more than the check's own limit, which is of CPU time


@dataclass
class End:
    """Hold how a forked process ended: its exit code (negative: the signal), what it wrote, its peak memory in bytes."""

    code: int
    output: str
    errors: str
    peak: int


def forked(work: Callable[[], int]) -> End:
    with tempfile.TemporaryFile() as output, tempfile.TemporaryFile() as errors:
        if not (child := os.fork()):
            os.dup2(output.fileno(), 1)
            os.dup2(errors.fileno(), 2)
            try:
                os._exit(work())
            except BaseException:  # noqa: BLE001  # the exit code and the text tell it
                os.write(2, traceback.format_exc().encode())
                os._exit(1)
        # A child that does not come back is ended, and counts as a hang.
        timer = signal.signal(signal.SIGALRM, lambda *_: os.kill(child, signal.SIGKILL))
        signal.alarm(SECONDS)
        _, status, used = os.wait4(child, 0)
        signal.alarm(0)
        signal.signal(signal.SIGALRM, timer)
        texts = []
        for file in (output, errors):
            file.seek(0)
            texts.append(file.read().decode(errors="replace"))
        return End(os.waitstatus_to_exitcode(status), *texts, used.ru_maxrss * 1024)


def read(path: str) -> int:
    """Do with a file that the check let through what a run and an evaluation do with it."""
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    present = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (present + READER_MEMORY, present + READER_MEMORY))
    for use in (tag, stored.evaluate):
        try:
            use(path)
        except TaggerError as error:
            if "\n" in str(error):
                raise
    return 0


def tag(path: str) -> None:
    manifest = open_manifest(path)
    for shard, table in manifest.read(manifest.shards()):
        refs = manifest.image_refs(table, shard.start)
        assert len(refs) == shard.stop - shard.start


def outcome(path: str) -> tuple[str, int]:
    """Return "refused", "read" or what went wrong, and the peak memory of the larger of the two readings."""
    checked = forked(lambda: read_all(path))
    try:
        require_success(path, checked.code, checked.output, checked.errors)
    except TaggerError as error:
        if "\n" in str(error) or path not in str(error):
            return f"not one line that names the file: {error}", checked.peak
        return "refused, its reader crashed" if checked.code < 0 else "refused", checked.peak
    except RuntimeError as error:
        return str(error), checked.peak
    done = forked(lambda: read(path))
    peak = max(checked.peak, done.peak)
    return ("read", peak) if done.code == 0 else (f"{done.code}: {' '.join(done.errors.split())[-300:]}", peak)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=10_000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--keep", type=Path, default=Path("fuzz-parquet-failures"))
    arguments = parser.parse_args()
    stored.check = lambda name: None  # done before, in a process that is forked and not started: hundreds a minute instead of ten
    made = Path(tempfile.mkdtemp()) / "seeds"

    def make() -> int:
        large = make_large_bombs() if arguments.count >= 1000 else []
        made.write_bytes(pickle.dumps((make_seeds(), make_bombs() + large)))
        return 0

    forked(make)
    seeds, bombs = pickle.loads(made.read_bytes())
    rng = random.Random(arguments.seed)
    outcomes: collections.Counter[str] = collections.Counter()
    began, slowest, largest = time.monotonic(), 0.0, 0
    for number in range(arguments.count + len(bombs)):
        how, data = bombs[number] if number < len(bombs) else mutate(rng, seeds)
        file = made.with_name("manifest.parquet")
        file.write_bytes(data)
        start = time.monotonic()
        result, peak = outcome(str(file))
        slowest, largest = max(slowest, time.monotonic() - start), max(largest, peak)
        outcomes[result if result.startswith("re") else "failed"] += 1
        if number < len(bombs):
            print(f"{how}: {len(data):,} bytes, {result}, peak {peak >> 20} MB, {time.monotonic() - start:.1f} s")
        if not result.startswith("re"):
            arguments.keep.mkdir(exist_ok=True)
            (arguments.keep / f"{arguments.seed}-{number}.parquet").write_bytes(data)
            print(f"{number} ({how}, {len(data)} bytes): {result}", flush=True)
    print(
        f"{sum(outcomes.values()):,} files: {dict(outcomes)}; slowest {slowest:.1f} s, peak memory {largest >> 20} MB, "
        f"{time.monotonic() - began:.0f} s in all"
    )
    return 1 if outcomes["failed"] else 0


if __name__ == "__main__":
    sys.exit(main())
