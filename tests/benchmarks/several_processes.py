"""Compare the engine of one process with two device processes and with Ray, on the same cores: in turn, for several rounds.

python tests/benchmarks/several_processes.py --rounds 5

Every engine tags --count photos and, in the same round, half of them: the difference of the two is free of what starting
processes and loading models takes, and of an uneven begin (one actor may take all that is there before another is up), which
are given apart. Device processes share the cores; where one encoder takes all of them, two of them cannot be faster.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
from common import HERE, add_arguments, describe, last_json, machine, make_catalogue, print_table, size, spread, tag
from make_model import make

WIDE = 32 << 20 >> 7  # bytes of a row that pad a shard to 128 rows (catalog/manifest.py), so that there are some to share
ENGINES: dict[str, tuple[str, ...] | None] = {
    "one process": (),
    "two device processes": ("--devices", "cpu,cpu"),
    "Ray, one worker": ("--engine", "ray", "--ray-workers", "1"),
    "Ray, two workers": ("--engine", "ray", "--ray-workers", "2"),
    "one process on one core": (),
    "a script of Ray Data": None,
}


def seconds_of(engine: str, manifest: Path, model: Path, precision: str) -> float:
    """Return the seconds of a whole process that tags the manifest."""
    own, cores = ENGINES[engine], os.sched_getaffinity(0)
    if own is None:
        return float(last_json([sys.executable, HERE / "ray_data.py", manifest, "--model", model])["process_seconds"])
    if engine.endswith("on one core"):
        os.sched_setaffinity(0, {min(cores)})
    try:
        fixed = ("--no-cache", "--no-report", "--precision", precision)
        return float(tag(manifest, model, *fixed, *own)["process_seconds"])
    finally:
        os.sched_setaffinity(0, cores)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_arguments(parser, count=1536)
    parser.add_argument("--size", type=size, default=(400, 533))
    parser.add_argument("--precision", default="auto")
    parser.add_argument("--engines", nargs="+", default=[*ENGINES], choices=[*ENGINES])
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    make(options.model)
    found: dict[str, list[tuple[float, float]]] = {engine: [] for engine in options.engines}
    with tempfile.TemporaryDirectory() as name:
        manifest = make_catalogue(Path(name) / "catalogue", options.photos, options.count, options.size)
        few = manifest.with_name("few.parquet")
        table = pq.read_table(manifest)
        table = table.append_column("padding", pa.array([bytes(WIDE)] * len(table), pa.binary()))
        for path, rows in ((manifest, options.count), (few, options.count // 2)):
            pq.write_table(table.slice(0, rows), path, compression="zstd", row_group_size=512, use_dictionary=False)
        print(f"{describe(manifest)}; {options.rounds} rounds. {machine('tagger', 'ray')}", flush=True)
        for _ in range(options.rounds):
            for engine in options.engines:
                small, large = (seconds_of(engine, one, options.model, options.precision) for one in (few, manifest))
                rate = (options.count - options.count // 2) / (large - small)
                found[engine].append((rate, large - options.count / rate))
    first = [rate for rate, _ in found[options.engines[0]]]
    rows = []
    for engine, rounds in found.items():
        rates, starts = zip(*rounds, strict=True)
        rows.append([engine, spread(rates), spread([a / b for a, b in zip(rates, first, strict=True)], 2), spread(starts)])
    print_table(["engine", "images per second", f"over {options.engines[0]}", "start and end, s"], rows)


if __name__ == "__main__":
    main()
