"""Stop runs with SIGTERM and SIGINT at random instants: they must end in time, leave no process and nothing half done.

    python tests/reliability/signals.py --runs 60

Each is stopped once, or twice (a second Ctrl-C), alone or with its whole process group as a terminal and systemd do, with 0, 1
or 2 decoding workers, anywhere from its first moment to its last; real starts of the command, imports and all, beside forks.
Then it is run again. Expected: exit code 75 and one line within 25 s, or a run that was already publishing and is complete.
"""

from __future__ import annotations

import argparse
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

LIMIT = 25.0  # seconds from the signal to the end
STOPPED = "tagger: stopped; nothing was published; run the same command again to continue"
SCRIPT = "import tagger.catalog.manifest as m; m.MAX_SHARD_ROWS = 64; from tagger.cli.main import main; main()"


class Runs:
    def __init__(self, folder: Path, rows: int, seed: int) -> None:
        self.folder, self.rows, self.random, self.output = folder, rows, random.Random(seed), folder / OUTPUT
        self.counts: Counter[str] = Counter(wrong=0)
        self.share_model = load_once()
        self.longest = 0.0
        self.seconds = {}
        for workers in (0, 2):
            began = time.monotonic()
            self.again(workers)
            self.seconds[workers] = time.monotonic() - began
            self.reference = self.output.read_bytes()

    def again(self, workers: int = 0) -> int:
        return wait(start(self.folder, arguments("--workers", workers, "--limit", self.rows), before=self.share_model))

    def start(self, workers: int, real: bool) -> int:
        command = arguments("--workers", workers, "--limit", self.rows)
        if not real:
            return start(self.folder, command)
        with (self.folder / "stdout").open("w") as output, (self.folder / "stderr").open("w") as errors:
            return subprocess.Popen(
                [sys.executable, "-c", SCRIPT, *command], cwd=self.folder, stdout=output, stderr=errors, start_new_session=True
            ).pid

    def stop(self, number: int) -> None:
        """Stop one run and run it again to its end."""
        self.output.unlink(missing_ok=True)
        shutil.rmtree(self.folder / "out.run")
        workers, real = number % 3, number % 10 == 0
        sent = self.random.choice((signal.SIGTERM, signal.SIGINT))
        send = self.random.choice((os.kill, os.killpg))
        twice = self.random.random() < 0.25
        pid = self.start(workers, real)
        while real and not has_ended(pid) and not (self.folder / "out.run").exists():
            time.sleep(0.01)
        time.sleep(self.random.uniform(0.02, self.seconds[2 if workers else 0] + 5 * real))
        if has_ended(pid):
            wait(pid)
            self.counts["ended before the signal"] += 1
            return
        began = time.monotonic()
        send(pid, sent)
        if twice:
            time.sleep(self.random.uniform(0, 0.3))
            if not has_ended(pid):
                send(pid, sent)
                self.counts["stopped twice"] += 1
        while not has_ended(pid) and time.monotonic() < began + 2 * LIMIT:
            time.sleep(0.01)
        seconds = time.monotonic() - began
        os.kill(pid, signal.SIGKILL)  # does nothing to one that has ended
        code = wait(pid)
        self.judge(f"{sent.name} by {send.__name__}, {workers} workers, {real=}, {twice=}", pid, code, seconds, twice)

    def judge(self, case: str, pid: int, code: int, seconds: float, twice: bool) -> None:
        self.longest = max(self.longest, seconds)
        lines = [line for line in (self.folder / "stderr").read_text().splitlines() if line]
        exists = self.output.exists()
        self.counts["runs"] += 1
        self.counts[f"exit code {code}"] += 1

        def expect(fine: bool, what: str) -> None:
            if not fine:
                self.counts["wrong"] += 1
                print(
                    f"{case}: {what}; exit code {code} after {seconds:.1f} s", *lines, sep="\n    ", file=sys.stderr, flush=True
                )

        expect(seconds < LIMIT, "too late")
        # After its last line a run is ended by a signal as any process is: it is complete all the same.
        expect(code in (0, 75) or (code in (-signal.SIGINT, -signal.SIGTERM) and exists), "another exit code")
        expect(not left_over(pid, LIMIT - seconds), "processes left over")
        expect(lines in ([], [STOPPED]) if twice or code != 75 else lines == [STOPPED], "other lines than the one")
        expect(not exists or self.output.read_bytes() == self.reference, "torn output")
        expect(exists if code != 75 else not exists or twice, "the exit code and the output disagree")
        again = self.again()
        expect(again == 0, f"the next run ends with {again}")
        expect(self.output.read_bytes() == self.reference, "the next run writes other bytes")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=60)
    parser.add_argument("--rows", type=int, default=600, help="only the first rows of the catalogue")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", action="store_true", help="print the counts as JSON")
    options = parser.parse_args()
    prepare()
    with tempfile.TemporaryDirectory() as name:
        runs = Runs(Path(name), options.rows, options.seed)
        number = 0
        while runs.counts["runs"] < options.runs:
            runs.stop(number)
            number += 1
        counts = {**runs.counts, "seconds from the signal to the end, at most": round(runs.longest, 1)}
    show(counts, options.json)


if __name__ == "__main__":
    main()
