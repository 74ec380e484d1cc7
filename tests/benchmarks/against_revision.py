"""Time whole runs of this checkout against an earlier revision, in turn, so that the machine's moods fall on both.

python tests/benchmarks/against_revision.py ac5e35e --pairs 7
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


def run(checkout: Path, folder: Path) -> tuple[float, float]:
    """Seconds of the whole process, and images per second as the run itself counts them."""
    command = [sys.executable, "-m", "tagger", "run", str(folder / "manifest.parquet")]
    command += ["--config", str(SAMPLE / "tagger.toml"), "--overwrite", "--quiet"]
    with tempfile.TemporaryDirectory() as nothing_known:
        environment = {**os.environ, "PYTHONPATH": str(checkout), "XDG_CACHE_HOME": nothing_known}
        began = time.perf_counter()
        subprocess.run(command, env=environment, cwd=folder, check=True, stdout=subprocess.DEVNULL)
        seconds = time.perf_counter() - began
    return seconds, json.loads((folder / "manifest.tagged.run" / "summary.json").read_text())["images_per_second"]


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
            pairs = []
            for number in range(options.pairs + 1):
                pairs.append([run(checkout, folder) for checkout in ((ROOT, earlier) if number % 2 else (earlier, ROOT))])
                if number % 2 == 0:
                    pairs[-1].reverse()
        finally:
            subprocess.run(["git", "worktree", "remove", "--force", earlier], cwd=ROOT, check=True)
    del pairs[0]  # warms the disk's cache
    for index, what in enumerate(("whole process, seconds", "images per second")):
        now, before = ([pair[side][index] for pair in pairs] for side in (0, 1))
        ratios = [one / other for one, other in zip(now, before, strict=True)]
        print(
            f"{what}: {statistics.median(now):.2f} now, {statistics.median(before):.2f} at {options.revision}; ratio "
            f"{statistics.median(ratios):.3f} (of {len(pairs)} pairs, from {min(ratios):.3f} to {max(ratios):.3f})"
        )


if __name__ == "__main__":
    main()
