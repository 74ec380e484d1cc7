"""Kill runs at random instants and at every failpoint, run them again, and compare with an undisturbed run.

    python tests/reliability/crash.py --kills 500

Prints a Markdown table. A quarter of the kills fall anywhere in a run. The others fall while a part is committed or the result is
published, in runs that continue one that was killed and have the model loaded. Meanwhile, a reader polls the output.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

from harness import OUTPUT, arguments, has_ended, left_over, load_once, prepare, show, start, wait

COMMIT_SECONDS = 0.02  # about as long as a part's commit takes here, from its temporary file on
PUBLISH_SECONDS = 0.06
WORKER_RUNS = 25  # one run in so many has a decoding process, which takes seconds to start


class Catalogue:
    """Tag the sample catalogue again and again in a folder, and know the bytes that must come out."""

    def __init__(self, folder: Path, rows: int, seed: int) -> None:
        self.folder, self.rows, self.random = folder, rows, random.Random(seed)
        self.output, self.parts, self.all_parts = folder / OUTPUT, folder / "out.run" / "parts", folder / "all-parts"
        self.counts: Counter[str] = Counter({"wrong": 0, "processes left over": 0})
        self.share_model = load_once()
        self.seconds = {}
        for workers in (0, 1):
            began = time.monotonic()
            if code := wait(start(self.folder, self.command(workers))):
                sys.exit(f"an undisturbed run ended with {code}: {self.errors()}")
            self.seconds[workers] = time.monotonic() - began
            self.reference = self.output.read_bytes()
            self.counts["undisturbed"] += 1

    def command(self, workers: int) -> list[str]:
        # Every other run finds what those before it have left in the embedding cache, and leaves more.
        return arguments("--workers", workers, "--limit", self.rows, cached=self.random.random() < 0.5)

    def start(self, failpoint: str = "") -> int:
        return start(self.folder, self.command(workers=0), {"TAGGER_FAILPOINT": failpoint}, before=self.share_model)

    def errors(self) -> str:
        return (self.folder / "stderr").read_text()

    def kill(self, number: int) -> None:
        """Kill one run and run it again to its end."""
        if number % 2:  # every other run replaces a result
            self.output.unlink(missing_ok=True)
        existed = self.output.exists()
        workers = int(number % WORKER_RUNS == WORKER_RUNS - 1)
        if workers or number % 4 == 0:
            pid = start(self.folder, self.command(workers))
            time.sleep(self.random.uniform(0, self.seconds[workers]))
        else:
            shutil.copytree(self.all_parts, self.parts)
            seconds = PUBLISH_SECONDS
            if number % 4 == 1:  # half as many as while publishing, which takes longer
                self.random.choice(sorted(self.parts.glob("*.parquet"))).unlink()
                seconds = COMMIT_SECONDS
            pid = self.start()
            while not (self.unfinished() or has_ended(pid)):
                time.sleep(0.001)
            time.sleep(self.random.uniform(0, seconds))
        os.kill(pid, signal.SIGKILL)
        if wait(pid) == 0:
            self.counts["ended before the kill"] += 1
            return
        self.counts["kills"] += 1
        self.counts[f"killed {self.where()}"] += 1
        self.judge("kill", existed or self.output.exists())
        if workers:
            self.counts["killed with a decoding process"] += 1
            self.counts["processes left over"] += len(left_over(pid, 25))
        self.again()

    def unfinished(self) -> bool:
        """Return whether a part or the result is being written."""
        try:
            return any(self.parts.glob("?" * 32 + ".tmp"))
        except FileNotFoundError:  # the run ended and removed its parts while they were being listed
            return False

    def where(self) -> str:
        """Return what the killed run was doing, judging by what it left."""
        parts, all_parts = (len(list(folder.glob("*.parquet"))) for folder in (self.parts, self.all_parts))
        if (self.parts / "published").exists():
            return "while it renamed the result" if self.unfinished() else "after the rename"
        if self.unfinished():
            return "while it joined the parts" if parts == all_parts else "while it wrote a part"
        return "between two parts" if parts else "before the first part, or after all"

    def again(self) -> None:
        if code := wait(self.start()):
            self.counts["re-runs that failed"] += 1
            print(f"re-run ended with {code}: {self.errors()}", file=sys.stderr)
        self.judge("re-run", True)

    def judge(self, moment: str, exists: bool) -> None:
        found = self.output.read_bytes() if exists and self.output.exists() else b""
        if exists and found != self.reference:
            self.counts["wrong"] += 1
            print(f"after a {moment}: {len(found)} bytes, expected {len(self.reference)}", file=sys.stderr)

    def fail_at(self, failpoint: str) -> None:
        self.output.unlink(missing_ok=True)
        if (code := wait(self.start(failpoint))) != -signal.SIGKILL:
            sys.exit(f"failpoint {failpoint}: expected to be killed, found exit code {code}")
        self.counts["failpoints"] += 1
        self.judge("failpoint", self.output.exists())
        if failpoint == "result-written":
            shutil.copytree(self.parts, self.all_parts, ignore=shutil.ignore_patterns("*.tmp"))
        self.again()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=500)
    parser.add_argument("--rows", type=int, default=600, help="only the first rows of the catalogue")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", action="store_true", help="print the counts as JSON")
    options = parser.parse_args()
    prepare()
    from tagger.catalog.results import FAILPOINTS

    with tempfile.TemporaryDirectory() as name:
        catalogue = Catalogue(Path(name), options.rows, options.seed)
        reference = Path(name) / "reference.parquet"
        reference.write_bytes(catalogue.reference)
        command = [sys.executable, str(Path(__file__).with_name("reader.py")), str(catalogue.output), str(reference)]
        reader = subprocess.Popen(command, stdout=subprocess.PIPE)
        for failpoint in FAILPOINTS:
            catalogue.fail_at(failpoint)
        number = 0
        while catalogue.counts["kills"] < options.kills:
            catalogue.kill(number)
            number += 1
            if number % 20 == 0:
                print(dict(catalogue.counts), file=sys.stderr, flush=True)
        reader.terminate()
        seen, _ = reader.communicate()
        counts = {**catalogue.counts, "reader exit code": reader.returncode}
        counts |= {f"reader: {key}": value for key, value in json.loads(seen).items()}
    show(counts, options.json)


if __name__ == "__main__":
    main()
