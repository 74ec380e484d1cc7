"""Measure the time and the memory of a run as the number of its rows grows.

python tests/benchmarks/rows.py --rows 1000 10000 100000 1000000 --distinct 20000

The manifests hold small PNGs, embedded. After --distinct of them they repeat, and come from the cache of the same run: that
bounds the encoder's work, but not what rows cost in memory. Memory is that of the whole process tree, as the sum of
proportional set sizes (shared pages count once); Linux only. "After 50,000 rows" is the median while the next 50,000 are
tagged; "at the end" is the median over the last tenth of the rows and the publishing of the results.
"""

from __future__ import annotations

import argparse
import contextlib
import functools
import io
import os
import statistics
import tempfile
import threading
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from common import LABELS, machine, print_table, tag
from make_model import SAMPLE
from PIL import Image

SCHEMA = pa.schema([("image", pa.binary()), ("title", pa.string()), ("category", pa.string())])
GROUP = 50_000  # rows that are written at once
BEFORE = 50_000  # rows after which memory should stay as it is
INTERVAL = 0.2  # seconds between two samples of memory


@functools.lru_cache(maxsize=100_000)
def picture(number: int, side: int) -> bytes:
    """Enlarge a few random pixels: quick to make, and different for every number."""
    pixels = np.random.default_rng(number).integers(0, 256, (4, 4, 3), np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(pixels).resize((side, side)).save(buffer, "PNG", compress_level=1)
    return buffer.getvalue()


def write_manifest(path: Path, rows: int, distinct: int, side: int) -> None:
    with pq.ParquetWriter(path, SCHEMA, compression="none", use_dictionary=False) as writer:
        for start in range(0, rows, GROUP):
            numbers = range(start, min(start + GROUP, rows))
            group = {
                "image": [picture(number % distinct, side) for number in numbers],
                "title": [f"row {number}" for number in numbers],
                "category": [LABELS[number % len(LABELS)] for number in numbers],
            }
            writer.write_table(pa.table(group, SCHEMA))


def memory_of(pid: int) -> int:
    """Return the bytes of a process's descendants and, unless it is this one, its own."""
    total = 0
    with contextlib.suppress(FileNotFoundError, ProcessLookupError):
        for task in Path(f"/proc/{pid}/task").iterdir():
            total += sum(memory_of(int(child)) for child in (task / "children").read_text().split())
        if pid != os.getpid():
            lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
            total += sum(int(line.split()[1]) * 1024 for line in lines if line.startswith("Pss:"))
    return total


class Sampler:
    """Sample the rows done and the bytes in use of the run that writes its parts into a folder, while the block lasts."""

    def __init__(self, parts: Path) -> None:
        self.parts, self.samples = parts, list[tuple[int, int]]()
        self._rows: dict[str, int] = {}
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._sample)

    def __enter__(self) -> Sampler:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    def between(self, low: float, high: float) -> float:
        """Return the median of the bytes while between `low` and `high` rows were done; NaN if there is no sample."""
        found = [memory for rows, memory in self.samples if low <= rows <= high]
        return statistics.median(found) if found else float("nan")

    def _sample(self) -> None:
        while not self._stop.wait(INTERVAL):
            for part in self.parts.glob("*.parquet"):
                if part.name not in self._rows:
                    with contextlib.suppress(OSError, pa.ArrowException):  # removed once the results are published
                        self._rows[part.name] = pq.read_metadata(part).num_rows
            if memory := memory_of(os.getpid()):
                self.samples.append((sum(self._rows.values()), memory))


def measure(folder: Path, rows: int, options: argparse.Namespace) -> list[object]:
    """Measure one row of the table."""
    manifest, distinct = folder / "manifest.parquet", min(rows, options.distinct or rows)
    write_manifest(manifest, rows, distinct, options.side)
    with Sampler(folder / "manifest.tagged.run" / "parts") as sampler:
        done = tag(manifest, options.model, "--cache", folder / "cache", "--workers", options.workers)
    peak = max((memory for _, memory in sampler.samples), default=float("nan"))
    early, late = sampler.between(BEFORE, 2 * BEFORE), sampler.between(rows * 0.9, rows)
    return [
        f"{rows:,}",
        f"{done['encoded_images']:,}",
        f"{manifest.stat().st_size / 1e6:,.0f}",
        f"{done['stage_seconds']['total']:,.1f}",
        f"{done['images_per_second']:,.0f}",
        *(f"{memory / 1e6:,.0f}" if memory == memory else "" for memory in (early, late, peak)),
        f"{100 * (late / early - 1):+.1f} %" if rows > 2 * BEFORE and early == early else "",
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, nargs="+", default=[1_000, 10_000, 100_000, 1_000_000])
    parser.add_argument("--distinct", type=int, help="different images; default: all")
    parser.add_argument("--side", type=int, default=32, help="of an image, in pixels")
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--model", type=Path, default=SAMPLE, help="default: the sample catalogue's")
    options = parser.parse_args()
    distinct = f"{options.distinct:,} different images, the rest recalled from the cache" if options.distinct else "all different"
    print(
        f"Embedded PNGs of {options.side}x{options.side}, {distinct}; {options.workers} workers. {machine('tagger', 'pyarrow')}"
    )
    heads = ["rows", "encoded", "manifest, MB", "seconds", "rows per second"]
    heads += [f"MB after {BEFORE:,} rows", "MB at the end", "most MB", "growth"]
    table = []
    for rows in options.rows:
        with tempfile.TemporaryDirectory() as name:
            table.append(measure(Path(name), rows, options))
    print_table(heads, table)


if __name__ == "__main__":
    main()
