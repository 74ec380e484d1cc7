"""Fail the Nth I/O call of a run in its output folder, N = 1, 2, … until a run meets no fault, as SQLite tests itself.

    python tests/reliability/fault_injection.py

The calls fail with ENOSPC and with EIO: one call, or that one and every later one that needs space (a disk stays full). After
each fault, the run must end with exit code 75 and one line, or succeed with the right bytes; nothing may be torn at the
output; and the next run must write the right bytes. Needs a C compiler (cc) and Linux. The model is loaded once for all runs,
since it reads nothing in the output folder.
"""

from __future__ import annotations

import argparse
import ctypes
import errno
import os
import shutil
import subprocess
import sys
import tempfile
from collections import Counter
from pathlib import Path

import pyarrow.parquet as pq

sys.path.insert(0, str(Path(__file__).parent))

from harness import SAMPLE, arguments, load_once, prepare, show, start, wait

SHARD_ROWS, ROWS = 4, 6
SOURCE = Path(__file__).with_name("fail_io.c")
NEVER = 1 << 40  # the number of a call that no run reaches
LEFT = {"embeddings.json", "lock", "lock.owner", "log.jsonl", "metrics.prom", "sketches.npy", "summary.json"}


def preload(folder: str) -> None:
    """Start this script again with fail_io.c in front of the C library."""
    library = Path(folder) / "fail_io.so"
    subprocess.run(["cc", "-shared", "-fPIC", "-O1", "-o", str(library), str(SOURCE), "-ldl"], check=True)
    environment = {**os.environ, "LD_PRELOAD": str(library)}
    sys.exit(subprocess.run([sys.executable, *sys.argv], env=environment, check=False).returncode)


class Faults:
    """Run in a folder whose I/O can fail, either `over` an earlier result and the parts of another job, or with nothing there."""

    def __init__(self, folder: Path, over: bool) -> None:
        self.folder, self.target = folder, folder / "target"
        self.output, self.run_folder = self.target / "out.parquet", self.target / "out.run"
        self.before, self.manifest = folder / "before", folder / "manifest.parquet"
        self.before.mkdir(parents=True)
        pq.write_table(pq.read_table(SAMPLE / "manifest.parquet").slice(0, ROWS + 1), self.manifest)
        self.counts: Counter[str] = Counter()
        self.reset()
        if over:
            self.must_succeed(limit=ROWS + 1)
            assert wait(self.start(limit=ROWS + 1, environment={"TAGGER_FAILPOINT": "result-written"})) == -9
            shutil.rmtree(self.before)
            self.target.rename(self.before)
            self.reset()
        self.earlier = self.found()
        self.calls = self.must_succeed()
        self.reference = self.found()

    def reset(self) -> None:
        shutil.rmtree(self.target, ignore_errors=True)
        shutil.copytree(self.before, self.target)

    def found(self) -> bytes:
        return self.output.read_bytes() if self.output.exists() else b""

    def start(
        self, number: int = 0, error: int = 0, lasting: bool = False, limit: int = ROWS, environment: dict[str, str] | None = None
    ) -> int:
        library = ctypes.CDLL(None)

        def arm() -> None:
            library.fail_io_arm(str(self.target).encode(), ctypes.c_long(number), error, int(lasting))

        def report() -> None:
            (self.folder / "calls").write_text(str(library.fail_io_calls()))

        command = arguments("--workers", 0, "--limit", limit, "--output", self.output, manifest=self.manifest)
        return start(self.folder, command, environment, before=arm, after=report)

    def must_succeed(self, limit: int = ROWS) -> int:
        """Run undisturbed; return the number of I/O calls."""
        if code := wait(self.start(NEVER, limit=limit)):
            sys.exit(f"an undisturbed run ended with {code}: {self.errors()}")
        return int((self.folder / "calls").read_text())

    def errors(self) -> str:
        return (self.folder / "stderr").read_text()

    def fail(self, number: int, error: int, lasting: bool) -> None:
        self.reset()
        code = wait(self.start(number, error, lasting))
        where = f"call {number} of {self.calls}, {errno.errorcode[error]}{' from then on' if lasting else ''}: exit code {code}"
        found, lines = self.found(), self.errors().splitlines()
        self.counts["faults"] += 1
        self.counts[f"exit code {code}"] += 1

        def expect(fine: bool, what: str) -> None:
            if not fine:
                self.counts["wrong"] += 1
                print(f"{where}: {what}", *lines, sep="\n    ", file=sys.stderr, flush=True)

        expect(code in (0, 75), "another exit code")
        expect(found in (self.earlier, self.reference), "torn output")
        expect(code != 0 or found == self.reference, "false success")
        expect(all(line.startswith("tagger: ") for line in lines), "something other than messages on stderr")
        warnings = (
            "starting over",
            "expected to write metrics.prom",
            "expected to write the sketches",
            "embeddings.json: expected to write",
        )
        expect(sum(not any(w in line for w in warnings) for line in lines) == (code != 0), "not one line of error")
        if code:
            said = " ".join(lines)
            expect(("nothing was published" in said) != ("the results are complete" in said), "published or not?")
            expect("nothing was published" not in said or found == self.earlier, "the line denies what was published")
            expect("the results are complete" not in said or found == self.reference, "the line claims what was not published")
        self.must_succeed()
        expect(self.found() == self.reference, "the next run writes other bytes")
        left = {file.name for file in self.run_folder.iterdir()}
        expect(left == LEFT, f"the next run leaves {left}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--every", type=int, default=1, help="only every so many-th call (short form)")
    parser.add_argument("--json", action="store_true", help="print the counts as JSON")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        if "fail_io" not in os.environ.get("LD_PRELOAD", ""):
            preload(name)
        prepare(SHARD_ROWS)
        load_once(at_once=SHARD_ROWS)()
        counts: Counter[str] = Counter()
        first = 1
        for over in (False, True):
            faults = Faults(Path(name) / f"over-{over}", over)
            for error in (errno.ENOSPC, errno.EIO):
                for lasting in (False, True):
                    first = first % options.every + 1  # each form of fault meets other calls
                    for number in range(first, faults.calls + 1, options.every):
                        faults.fail(number, error, lasting)
                    print(f"over={over} {errno.errorcode[error]} {lasting=}: {dict(faults.counts)}", file=sys.stderr, flush=True)
            counts += faults.counts
            counts["I/O calls of a run"] = max(counts["I/O calls of a run"], faults.calls)
    counts["wrong"] += 0
    show(counts, options.json)


if __name__ == "__main__":
    main()
