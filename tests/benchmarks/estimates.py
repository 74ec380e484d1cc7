"""Compare what `tagger inspect` expects of a run with what the run takes: seconds of the process, and peak memory.

python tests/benchmarks/estimates.py --count 256

The runs tag the sample catalogue, and JPEGs of two sizes with a checkpoint of ViT-B/32's size, each in the precision that
`auto` chooses and in fp32, without a cache. Memory is that of the whole process tree (rows.py). Linux only.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pyarrow.parquet as pq
from common import LABELS, add_arguments, machine, make_catalogue, print_table, tag
from make_model import SAMPLE, make
from PIL import Image
from rows import Sampler


def inspect(manifest: Path, model: Path, *options: str) -> tuple[dict[str, float], float]:
    """Return the estimate of `tagger inspect`, and the seconds that it took."""
    command = [
        sys.executable,
        "-m",
        "tagger",
        "inspect",
        str(manifest),
        "--json",
        "--model",
        str(model),
    ]
    began = time.perf_counter()
    done = subprocess.run([*command, "--labels", ",".join(LABELS), *options], check=True, stdout=subprocess.PIPE)
    return json.loads(done.stdout)["estimate"], time.perf_counter() - began


def copy_sample(folder: Path) -> Path:
    """Copy the sample catalogue without its bad images; return the manifest's path."""
    shutil.copytree(SAMPLE.parent / "images", folder)
    table = pq.read_table(SAMPLE.parent / "manifest.parquet")
    whole = []
    for row, name in enumerate(table["image_path"].to_pylist()):
        with contextlib.suppress(OSError), Image.open(folder / name) as image:
            image.load()
            whole.append(row)
    pq.write_table(table.take(whole), folder / "manifest.parquet")
    return folder / "manifest.parquet"


def measure(name: str, manifest: Path, model: Path, precision: str, folder: Path) -> list[object]:
    """Measure one row of the table."""
    expected, took = inspect(manifest, model, "--precision", precision)
    with Sampler(folder) as sampler:
        done = tag(manifest, model, "--no-cache", "--precision", precision)
    seconds, memory = expected["seconds"], expected["main_bytes"] + expected["decoding_bytes"]
    peak, main = max(memory for _, memory in sampler.samples), done["peak_memory_bytes"]
    return [
        name,
        done["model"]["precision"],
        f"{took:.1f}",
        f"{seconds:.1f}",
        f"{done['process_seconds']:.1f}",
        f"{seconds / done['process_seconds']:.2f}",
        f"{memory / 1e6:,.0f} ({expected['main_bytes'] / 1e6:,.0f})",
        f"{peak / 1e6:,.0f} ({main / 1e6:,.0f})",
        f"{memory / peak:.2f}",
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_arguments(parser, count=256)
    options = parser.parse_args()
    make(options.model)
    table: list[list[object]] = []
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        sample = copy_sample(folder / "sample")
        large = max(options.count // 4, 32)
        jobs = [
            ("sample catalogue, 597 rows", sample, SAMPLE),
            (
                f"{options.count} of 400x533",
                make_catalogue(folder / "small", options.photos, options.count, (400, 533)),
                options.model,
            ),
            (f"{large} of 1600x2132", make_catalogue(folder / "large", options.photos, large, (1600, 2132)), options.model),
        ]
        for name, manifest, model in jobs:
            table += [measure(name, manifest, model, precision, folder) for precision in ("auto", "fp32")]
    print(machine())
    columns = ["", "precision", "inspect, s", "expected, s", "took, s", "ratio", "expected MB (main)", "peak MB (main)", "ratio"]
    print_table(columns, table)


if __name__ == "__main__":
    main()
