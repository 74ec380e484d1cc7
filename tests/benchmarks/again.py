"""Time the usual night: a catalogue in which nothing, its labels, or one image in a hundred has changed.

python tests/benchmarks/again.py --rows 20000

The catalogue consists of files of noise, tagged by the sample catalogue's model. Rows per second are taken from summary.json:
they cover the time from the first read to the published result, without the start of Python and the loading of the model.
"""

from __future__ import annotations

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


def picture(number: int, side: int) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(np.random.default_rng(number).integers(0, 256, (side, side, 3), np.uint8)).save(buffer, "JPEG")
    return buffer.getvalue()


def run(folder: Path, labels: str, *options: str) -> dict[str, float]:
    """Run the command line once; return what its summary says, and the seconds of the whole process."""
    command = [
        sys.executable,
        "-m",
        "tagger",
        "run",
        str(folder / "manifest.parquet"),
        "--quiet",
    ]
    command += ["--model", str(MODEL), "--labels", labels, "--overwrite", "--cache", str(folder / "cache"), *options]
    began = time.perf_counter()
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    seconds = time.perf_counter() - began
    summary = json.loads((folder / "manifest.tagged.run" / "summary.json").read_text())
    return {"rows per second": summary["images_per_second"], "encoded": summary["encoded_images"], "process, s": seconds}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=20_000)
    parser.add_argument("--side", type=int, default=100)
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        names = [f"{number // 1000:04d}/{number:07d}.jpg" for number in range(options.rows)]
        for number, path in enumerate(names):
            (folder / path).parent.mkdir(exist_ok=True)
            (folder / path).write_bytes(picture(number, options.side))
        pq.write_table(pa.table({"image_path": names}), folder / "manifest.parquet")
        time.sleep(3)  # a file changed just now is read again: it may change once more and keep its times
        nights = [("from nothing", run(folder, "shirt,dress,shoes"))]
        for number in range(options.rounds):
            nights.append(("nothing changed", run(folder, "shirt,dress,shoes")))
            nights.append(("other labels", run(folder, f"hat,bag,coat {number}")))
            replaced = names[number::100]
            for path in replaced:
                (folder / path).write_bytes(picture(options.rows * (number + 1) + int(path[5:-4]), options.side))
            time.sleep(3)
            nights.append((f"{len(replaced)} images replaced", run(folder, "shirt,dress,shoes")))
            nights.append(("every file read and hashed", run(folder, "shirt,dress,shoes", "--verify-content")))
        print("| night | rows per second (median) | images encoded | whole process, s (median) |\n|---|---|---|---|")
        for kind in dict.fromkeys(kind for kind, _ in nights):
            found = [night for of, night in nights if of == kind]
            rows, seconds = (np.median([night[key] for night in found]) for key in ("rows per second", "process, s"))
            encoded = sorted({int(night["encoded"]) for night in found})
            print(f"| {kind} | {rows:,.0f} | {' to '.join(f'{count:,}' for count in encoded)} | {seconds:.1f} |")


if __name__ == "__main__":
    main()
