"""Time the usual night: a catalogue in which nothing, its labels, or one image in a hundred has changed.

python tests/benchmarks/again.py --rows 20000
python tests/benchmarks/again.py --sample

The catalogue consists of files of noise, tagged by the sample catalogue's model, or is the sample catalogue itself. Rows per
second are taken from summary.json: they cover the time from the first read to the published result, without the start of Python
and the loading of the model. Seconds and memory are those of the whole process and of those that it starts.
"""

from __future__ import annotations

import argparse
import io
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from common import machine
from PIL import Image

SAMPLE = Path(__file__).parents[2] / "sample_catalog"
LABELS = ("shirt", "dress", "shoes")


class Night(NamedTuple):
    kind: str
    rows_a_second: float
    encoded: int
    seconds: float
    megabytes: float


def picture(number: int, side: int) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(np.random.default_rng(number).integers(0, 256, (side, side, 3), np.uint8)).save(buffer, "JPEG")
    return buffer.getvalue()


def run(kind: str, folder: Path, *options: str) -> Night:
    """Run the command line once; return what its summary says, and what the whole process took."""
    command = [sys.executable, "-m", "tagger", "run", str(folder / "manifest.parquet"), "--quiet", "--overwrite"]
    began = time.perf_counter()
    process = subprocess.Popen([*command, "--cache", str(folder / "cache"), *options], stdout=subprocess.DEVNULL)
    _, status, used = os.wait4(process.pid, 0)
    seconds = time.perf_counter() - began
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise SystemExit(f"{kind}: exit code {process.returncode}")
    summary = json.loads((folder / "manifest.tagged.run" / "summary.json").read_text())
    return Night(kind, summary["images_per_second"], summary["encoded_images"], seconds, used.ru_maxrss / 1e3)


def nights_of_noise(folder: Path, options: argparse.Namespace) -> list[Night]:
    names = [f"{number // 1000:04d}/{number:07d}.jpg" for number in range(options.rows)]
    for number, path in enumerate(names):
        (folder / path).parent.mkdir(exist_ok=True)
        (folder / path).write_bytes(picture(number, options.side))
    pq.write_table(pa.table({"image_path": names}), folder / "manifest.parquet")
    time.sleep(3)  # a file changed just now is read again: it may change once more and keep its times

    def tag(kind: str, *more: str, labels: tuple[str, ...] = LABELS) -> Night:
        return run(kind, folder, "--model", str(SAMPLE / "model"), "--labels", ",".join(labels), *more)

    nights = [tag("from nothing")]
    for number in range(options.rounds):
        nights.append(tag("nothing changed"))
        nights.append(tag("nothing changed, no report", "--no-report"))
        nights.append(tag("other labels, whose prompts are known", "--no-report", labels=LABELS[1:]))
        nights.append(tag("other labels, with a new prompt", "--no-report", labels=(*LABELS[1:], f"coat {number}")))
        replaced = names[number::100]
        for path in replaced:
            (folder / path).write_bytes(picture(options.rows * (number + 1) + int(path[5:-4]), options.side))
        time.sleep(3)
        nights.append(tag(f"{len(replaced)} images replaced"))
        nights.append(tag("every file read and hashed", "--verify-content"))
    return nights


def nights_of_the_sample(folder: Path, options: argparse.Namespace) -> list[Night]:
    shutil.copytree(SAMPLE, folder, dirs_exist_ok=True)
    time.sleep(3)
    settings = (folder / "tagger.toml").read_text()

    def tag(kind: str, *more: str, labels: str = '"pullover"') -> Night:
        (folder / "tagger.toml").write_text(settings.replace('"pullover"', labels))
        return run(kind, folder, *more)

    nights = [tag("from nothing"), tag("other labels", labels='"jumper"')]
    for number in range(options.rounds):
        nights.append(tag("nothing changed"))
        nights.append(tag("nothing changed, no report", "--no-report"))
        nights.append(tag("other labels, whose prompts are known", "--no-report", labels='"jumper"'))
        nights.append(tag("other labels, with new prompts", "--no-report", labels=f'"pullover", "hat {number}"'))
    return nights


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sample", action="store_true")
    parser.add_argument("--rows", type=int, default=20_000)
    parser.add_argument("--side", type=int, default=100)
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        nights = (nights_of_the_sample if options.sample else nights_of_noise)(Path(name), options)
    print(f"Medians of {options.rounds} rounds. {machine()}\n")
    print("| night | rows per second | images encoded | whole process, s | most MB |\n|---|---|---|---|---|")
    for kind in dict.fromkeys(night.kind for night in nights):
        found = [night for night in nights if night.kind == kind]
        rows, seconds, most = np.median([(one.rows_a_second, one.seconds, one.megabytes) for one in found], axis=0)
        encoded = sorted({one.encoded for one in found})
        print(f"| {kind} | {rows:,.0f} | {' to '.join(f'{count:,}' for count in encoded)} | {seconds:.2f} | {most:,.0f} |")


if __name__ == "__main__":
    main()
