"""Time this checkout against an earlier revision, in turn, so that what else the machine does slows both.

python tests/benchmarks/against_revision.py ac5e35e --pairs 7

Four figures, each with the ratio of now to then: the seconds of a whole process that knows nothing, its images per second, the
seconds of a night on which nothing has changed, and those of `tagger --help`.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

ROOT = Path(__file__).parents[2]
SAMPLE = ROOT / "sample_catalog"
HELPS = 5  # one start of --help is too short to be timed alone


def seconds_of(checkout: Path, folder: Path, cache: str | Path, *arguments: str) -> float:
    """Return the seconds that a command of this checkout takes as a process of its own, started in `folder`."""
    # Until 036629f, tagger/cli.py was one module, and `python -m tagger` was not there.
    one_module = (checkout / "tagger" / "cli.py").exists()
    start = ["-c", "from tagger.cli import main; main()"] if one_module else ["-m", "tagger"]
    environment = {**os.environ, "PYTHONPATH": str(checkout), "XDG_CACHE_HOME": str(cache)}
    began = time.perf_counter()
    command = [sys.executable, *start, *arguments]
    subprocess.run(command, env=environment, cwd=folder, check=True, stdout=subprocess.DEVNULL)
    return time.perf_counter() - began


def measure(checkout: Path, folder: Path, warm: Path) -> dict[str, float]:
    """Measure all figures of a checkout once; `warm` is the cache that its earlier runs have filled."""
    run = ("run", str(folder / "manifest.parquet"), "--config", str(SAMPLE / "tagger.toml"), "--overwrite", "--quiet")
    with tempfile.TemporaryDirectory() as empty:
        whole_job = seconds_of(checkout, folder, empty, *run)
    summary = json.loads((folder / "manifest.tagged.run" / "summary.json").read_text())
    return {
        "whole job, seconds": whole_job,
        "whole job, images per second": summary["images_per_second"],
        "unchanged night, seconds": seconds_of(checkout, folder, warm, *run),
        "--help, seconds": sum(seconds_of(checkout, folder, warm, "--help") for _ in range(HELPS)) / HELPS,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("revision")
    parser.add_argument("--pairs", type=int, default=7)
    parser.add_argument("--times", type=int, default=1, help="how often the sample catalogue stands in the manifest")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder, earlier = Path(name), Path(name) / "earlier"
        subprocess.run(["git", "worktree", "add", "--quiet", "--detach", earlier, options.revision], cwd=ROOT, check=True)
        try:
            catalogue = pa.concat_tables([pq.read_table(SAMPLE / "manifest.parquet")] * options.times)
            ids = pa.array([str(row) for row in range(len(catalogue))])
            place = catalogue.schema.get_field_index("product_id")
            pq.write_table(catalogue.set_column(place, "product_id", ids), folder / "manifest.parquet")
            checkouts = {"now": ROOT, "before": earlier}
            found: dict[str, list[dict[str, float]]] = {side: [] for side in checkouts}
            for number in range(options.pairs + 1):
                for side in sorted(checkouts, reverse=bool(number % 2)):
                    found[side].append(measure(checkouts[side], folder, folder / f"cache-{side}"))
        finally:
            subprocess.run(["git", "worktree", "remove", "--force", earlier], cwd=ROOT, check=True)
    now, before = found["now"][1:], found["before"][1:]  # the first pair fills the caches, the disk's among them
    for figure in now[0]:
        here, there = ([one[figure] for one in side] for side in (now, before))
        ratios = [one / other for one, other in zip(here, there, strict=True)]
        print(
            f"{figure}: {statistics.median(here):.3g} now, {statistics.median(there):.3g} at {options.revision}; ratio "
            f"{statistics.median(ratios):.3f} (of {len(ratios)} pairs, from {min(ratios):.3f} to {max(ratios):.3f})"
        )


if __name__ == "__main__":
    main()
