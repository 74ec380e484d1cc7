"""Measure what report.html costs: of results of any size, and at the end of a run over photos.

python tests/benchmarks/report.py --rows 10000 100000 1000000 --count 5000

The results are made (tests/helpers/results.py): labels, confidences and a truth for every second row, with the paths of the
photos in turn. Seconds are of the whole `tagger report`, imports and all; memory is the sum of proportional set sizes of its
process tree; Linux only. The runs are of --count photos, not cached, in turn with and without --no-report.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2]))

from common import LABELS, add_arguments, machine, make_catalogue, print_table
from make_model import SAMPLE
from rows import memory_of

from tests.helpers.results import write_result

PAGE = "report.html"


def timed(*arguments: object) -> tuple[float, int]:
    """Run the command line; return its seconds, and the most bytes that it and its processes had."""
    began, most = time.perf_counter(), 0
    process = subprocess.Popen([sys.executable, "-m", "tagger", *map(str, arguments)], stdout=subprocess.DEVNULL)
    while process.poll() is None:
        most = max(most, memory_of(process.pid))
        time.sleep(0.1)
    if process.returncode:
        sys.exit(f"tagger {arguments[0]} ended with {process.returncode}")
    return time.perf_counter() - began, most


def measure_report(folder: Path, rows: int, photos: Path, labels: int, attributes: int) -> list[object]:
    """Measure one row of the first table."""
    images = [str(path.resolve()) for path in sorted(photos.rglob("*.jpg"))]
    names = [f"label {number}" for number in range(labels)]
    result = write_result(
        folder / "r.parquet", rows, {f"kind{number}": names for number in range(attributes)}, images, image_root=Path("/")
    )
    seconds, most = timed("report", result)
    size = (folder / "r.run" / PAGE).stat().st_size
    return [f"{rows:,}", labels, attributes, f"{seconds:.1f}", f"{most / 1e6:,.0f}", f"{size / 1e6:.1f}"]


def measure_runs(folder: Path, options: argparse.Namespace) -> list[list[object]]:
    """Measure runs with and without a report, in turn; return the second table."""
    manifest = make_catalogue(folder / "catalogue", options.photos, options.count, (400, 533))
    fixed = ("run", manifest, "--model", options.model, "--labels", ",".join(LABELS), "--overwrite", "--no-cache", "--quiet")
    found: dict[str, list[float]] = {"--report": [], "--no-report": []}
    for _ in range(options.rounds):
        for option, seconds in found.items():
            seconds.append(timed(*fixed, option)[0])
    pairs = zip(found["--report"], found["--no-report"], strict=True)
    slower = statistics.median(with_it / without - 1 for with_it, without in pairs)
    return [
        [option, f"{statistics.median(seconds):.1f}", f"{min(seconds):.1f} to {max(seconds):.1f}"]
        for option, seconds in found.items()
    ] + [["slower by", f"{100 * slower:.1f} %", ""]]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_arguments(parser, 5000)
    parser.add_argument("--rows", type=int, nargs="*", default=[10_000, 100_000, 1_000_000])
    parser.add_argument("--rounds", type=int, default=3, help="runs with a report, and as many without; 0 for none")
    parser.set_defaults(model=SAMPLE)
    options = parser.parse_args()
    print(machine("tagger", "pyarrow", "matplotlib"), f"{os.cpu_count()} cores")
    table = []
    for rows in options.rows:
        for labels, attributes in ((10, 1), (200, 3)):
            with tempfile.TemporaryDirectory() as name:
                table.append(measure_report(Path(name), rows, options.photos, labels, attributes))
    print_table(["rows", "labels", "attributes", "seconds", "most MB", "page, MB"], table)
    if options.rounds:
        with tempfile.TemporaryDirectory() as name:
            print_table([f"a run over {options.count:,} photos", "seconds", "range"], measure_runs(Path(name), options))


if __name__ == "__main__":
    main()
