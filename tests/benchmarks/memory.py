"""Does a run's memory grow with the manifest's rows? Samples the resident memory of a run, workers included.

    python tests/benchmarks/memory.py --rows 1000000 --limit 100000 --size 32

Writes a manifest of ROWS small embedded PNGs, all different (one row group of the size pyarrow makes by default), tags
the first LIMIT of them with the sample model, and prints the memory of the whole process tree as the rows go by, as the
sum of proportional set sizes (shared pages are counted once).
"""

import argparse
import io
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

MODEL = Path(__file__).parents[2] / "sample_catalog" / "model"
SCHEMA = pa.schema([("image", pa.binary()), ("title", pa.string()), ("category", pa.string())])


def write_manifest(path: Path, rows: int, size: int) -> None:
    random = np.random.default_rng(0)
    with pq.ParquetWriter(path, SCHEMA, compression="none") as writer:
        group: list[dict[str, object]] = []
        for row in range(rows):
            # A small random picture enlarged: cheap to make, different in every row.
            tile = Image.fromarray(random.integers(0, 256, (4, 4, 3), np.uint8)).resize((size, size))
            buffer = io.BytesIO()
            tile.save(buffer, "PNG", compress_level=1)
            group.append({"image": buffer.getvalue(), "title": f"row {row}", "category": ("shirt", "dress", "shoes")[row % 3]})
            if len(group) == 50_000 or row == rows - 1:
                writer.write_table(pa.Table.from_pylist(group, SCHEMA), row_group_size=1 << 20)
                group = []


def tree_memory(pid: int) -> int:
    """Bytes of the process and its descendants (proportional set size; Linux)."""
    total = 0
    try:
        for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
            if line.startswith("Pss:"):
                total = int(line.split()[1]) * 1024
        for task in Path(f"/proc/{pid}/task").iterdir():
            total += sum(tree_memory(int(child)) for child in (task / "children").read_text().split())
    except (FileNotFoundError, ProcessLookupError):
        pass
    return total


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--limit", type=int, default=100_000)
    parser.add_argument("--size", type=int, default=32)
    parser.add_argument("--workers", type=int, default=1)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        manifest = Path(folder) / "manifest.parquet"
        write_manifest(manifest, options.rows, options.size)
        print(f"manifest: {options.rows} rows, {manifest.stat().st_size / 1e6:.0f} MB", flush=True)
        command = [
            sys.executable,
            "-c",
            "from tagger.cli import main; main()",
            "run",
            str(manifest),
            "--quiet",
            "--cache",
            folder,
        ]
        command += ["--model", str(MODEL), "--limit", str(options.limit), "--workers", str(options.workers)]
        samples: list[tuple[float, int]] = []
        start = time.monotonic()
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
        while process.poll() is None:
            samples.append((time.monotonic() - start, tree_memory(process.pid)))
            time.sleep(1)
        if process.returncode:
            sys.exit(f"tagger run ended with {process.returncode}")
        summary = json.loads((Path(folder) / "manifest.tagged.run" / "summary.json").read_text())
        began = samples[-1][0] - summary["stage_seconds"]["total"]
        print("    rows    MB (median of the samples in the tenth of the run before)")
        for tenth in range(1, 11):
            low, high = (began + summary["stage_seconds"]["total"] * part / 10 for part in (tenth - 1, tenth))
            inside = sorted(memory for moment, memory in samples if low < moment <= high) or [0]
            print(f"{options.limit * tenth // 10:8}  {inside[len(inside) // 2] / 1e6:6.0f}")
        print(
            f"{summary['images_per_second']:.0f} images/s, peak of the main process {summary['peak_memory_bytes'] / 1e6:.0f} MB"
        )


if __name__ == "__main__":
    main()
