"""Kill decoding processes by the hundred, from outside and by images that crash them, in one run.

    python tests/reliability/dying_workers.py --kills 100 --rows 3000

Every row but those of the crashing images must come back with the tags that it has in an undisturbed run.
"""

from __future__ import annotations

import argparse
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

import psutil
import pyarrow as pa
import pyarrow.parquet as pq

HERE = Path(__file__).parent
SAMPLE = HERE.parents[1] / "sample_catalog"
COMMAND = [
    sys.executable,
    "-m",
    "tagger",
    "run",
    "--labels",
    "shirt,dress,shoes",
    "--overwrite",
]
COMMAND += ["--no-cache", "--model", str(SAMPLE / "model"), "--batch-size", "8"]


def write_manifest(path: Path, rows: int, failures: dict[int, str]) -> None:
    """Write embedded pictures of the sample catalogue, repeated; `failures` says how a row's decoder fails (broken_decoder/).

    Each image ends with its row number, which no decoder reads, because equal bytes would be encoded only once.
    """
    pictures = [(SAMPLE / "images" / f"{number:04d}.png").read_bytes() for number in range(100)]
    images = [
        pictures[row % 100] + f"row {row} ".encode() + (f"broken-decoder:{failures[row]}".encode() if row in failures else b"")
        for row in range(rows)
    ]
    pq.write_table(pa.table({"image": images}), path)


def tag(manifest: Path, *options: str) -> subprocess.Popen[str]:
    path = os.pathsep.join([str(HERE / "broken_decoder"), *filter(None, [os.environ.get("PYTHONPATH")])])
    environment = {**os.environ, "PYTHONPATH": path}
    return subprocess.Popen([*COMMAND, str(manifest), *options], env=environment, stdout=-1, stderr=-1, text=True)


def workers_of(run: subprocess.Popen[str]) -> list[psutil.Process]:
    """Return the decoding processes: grandchildren, forked from a process of their own."""
    try:
        return [worker for child in psutil.Process(run.pid).children() for worker in child.children()]
    except psutil.NoSuchProcess:
        return []


def kill_workers(run: subprocess.Popen[str], kills: int, seed: int) -> int:
    """Kill one worker after another, at random moments, up to `kills` times or until the run ends; return how many."""
    chance = random.Random(seed)
    done = 0
    while done < kills and run.poll() is None:
        time.sleep(chance.uniform(0.5, 1.5))
        if workers := workers_of(run):
            try:
                chance.choice(workers).send_signal(signal.SIGKILL)
                done += 1
            except psutil.NoSuchProcess:  # it has ended meanwhile
                continue
    return done


def disturbed_run(folder: Path, rows: int, crashes: int, kills: int, seed: int = 0) -> tuple[int, Counter[str], int]:
    """Return the number of kills, the outcomes of the rows, and how many tags differ from those of an undisturbed run."""
    crashing = random.Random(seed).sample(range(rows), crashes)
    write_manifest(folder / "disturbed.parquet", rows, dict.fromkeys(crashing, "segfault"))
    write_manifest(folder / "quiet.parquet", rows, {})
    run = tag(folder / "disturbed.parquet", "--workers", "2")
    killed = kill_workers(run, kills, seed)
    for process in (run, tag(folder / "quiet.parquet", "--workers", "0")):
        _, errors = process.communicate()
        assert process.returncode == 0, errors
    disturbed, quiet = (pq.read_table(folder / f"{name}.tagged.parquet").drop(["image"]) for name in ("disturbed", "quiet"))
    assert len(disturbed) == len(quiet) == rows
    wrong = sum(
        not (found["tag_reason"] or "").startswith("crashed: ") if row in crashing else found != wanted
        for row, (found, wanted) in enumerate(zip(disturbed.to_pylist(), quiet.to_pylist(), strict=True))
    )
    return killed, Counter(disturbed["tag_status"].to_pylist()), wrong


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=100)
    parser.add_argument("--rows", type=int, default=3000)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        began = time.monotonic()
        killed, outcomes, wrong = disturbed_run(Path(folder), options.rows, crashes=options.kills, kills=options.kills)
    print(
        f"| decoding processes killed in one run | {options.rows} rows, {killed} SIGKILL, {options.kills} images that end "
        f"theirs by SIGSEGV | {outcomes['tagged']} tagged, {outcomes['error']} errors, {wrong} rows wrong; "
        f"{time.monotonic() - began:.0f} s |"
    )


if __name__ == "__main__":
    main()
