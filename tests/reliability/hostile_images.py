"""Tag files that are damaged, odd or made to do harm, and files that were mutated from good ones, in one run.

    python tests/reliability/hostile_images.py --mutated 2000 --folder FOLDER_OF_BAD_IMAGES

Every row must come back once; rows that could be tagged must have the tags that they have in a run of good rows alone.
"""

from __future__ import annotations

import argparse
import io
import os
import random
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from pathlib import Path

import psutil
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

SAMPLE = Path(__file__).parents[2] / "sample_catalog"
COMMAND = [
    sys.executable,
    "-m",
    "tagger",
    "run",
    "--labels",
    "shirt,dress,shoes",
    "--overwrite",
]
COMMAND += ["--no-cache", "--model", str(SAMPLE / "model"), "--image-root", "/", "--image-timeout", "20"]


def mutated(data: bytes, chance: random.Random) -> bytes:
    """Return the file with damage of the usual kinds: flipped bits, lost, doubled and foreign stretches, large numbers."""
    changed = bytearray(data)
    for _ in range(chance.randint(1, 8)):
        # Half of the harm goes to the first bytes, where the headers are.
        place = chance.randrange(min(len(changed), 64) if chance.random() < 0.5 else len(changed))
        length = min(chance.choice([1, 2, 4, 64, 1024]), len(changed) - place)
        stretch = changed[place : place + length]
        match chance.randrange(6):
            case 0:
                changed[place] ^= 1 << chance.randrange(8)
            case 1:
                changed[place : place + length] = chance.choice([b"\xff", b"\x00", b"\x7f"]) * length
            case 2:
                changed[place : place + length] = chance.randbytes(length)
            case 3 if len(changed) > 2 * length:
                del changed[place : place + length]
            case 4:
                changed[place:place] = stretch
            case 5 if chance.random() < 0.3:
                del changed[max(place, 1) :]
    return bytes(changed)


def write_mutated(folder: Path, count: int, seed: int = 0) -> list[Path]:
    """Return mutations of pictures of the sample catalogue in all allowed formats and several modes."""
    chance = random.Random(seed)
    good: list[bytes] = []
    for number in range(24):
        with Image.open(SAMPLE / "images" / f"{number:04d}.png") as opened:
            picture = opened.convert(("RGB", "L", "P", "RGBA")[number % 4]).resize((96, 128))
        for name, options in (("PNG", {}), ("JPEG", {"progressive": number % 3 == 0}), ("WEBP", {"lossless": number % 2 == 0})):
            buffer = io.BytesIO()
            (picture.convert("RGB") if name == "JPEG" else picture).save(buffer, name, **options)
            good.append(buffer.getvalue())
    paths = [folder / f"{number:05d}" for number in range(count)]
    for path in paths:
        path.write_bytes(mutated(chance.choice(good), chance))
    return paths


def tag(manifest: Path, images: list[Path], *options: str) -> tuple[pa.Table, int]:
    """Return the results, and the largest resident memory, in bytes, of any process but the first."""
    pq.write_table(pa.table({"image": [str(path) for path in images]}), manifest)
    run = subprocess.Popen([*COMMAND, str(manifest), *options], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    largest = 0

    def watch() -> None:
        nonlocal largest
        while run.poll() is None:
            try:
                found = [child.memory_info().rss for child in psutil.Process(run.pid).children(recursive=True)]
                largest = max(largest, *found, 0)
            except psutil.NoSuchProcess:
                continue
            time.sleep(0.05)

    watcher = threading.Thread(target=watch)
    watcher.start()
    _, errors = run.communicate()
    watcher.join()
    assert run.returncode == 0, errors
    assert "Traceback" not in errors
    return pq.read_table(manifest.with_name(f"{manifest.stem}.tagged.parquet")), largest


def hostile_run(folder: Path, images: list[Path]) -> tuple[Counter[str], int, int]:
    """Return the outcomes of all rows, how many tagged rows have other tags than when run alone, and the largest memory."""
    together, largest = tag(folder / "together.parquet", images, "--workers", "2")
    assert together["image"].to_pylist() == [str(path) for path in images]
    reasons = together["tag_reason"].to_pylist()
    good = [row for row, status in enumerate(together["tag_status"].to_pylist()) if status != "error"]
    alone, _ = tag(folder / "alone.parquet", [images[row] for row in good], "--workers", "0")
    differing = sum(one != other for one, other in zip(together.take(good).to_pylist(), alone.to_pylist(), strict=True))
    return Counter((reason or "tagged").split(":")[0] for reason in reasons), differing, largest


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--mutated", type=int, default=2000)
    parser.add_argument("--folder", type=Path, help="all files below it are images of the run, too")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        found = sorted(path for path in options.folder.resolve().rglob("*") if path.is_file()) if options.folder else []
        images = [*found, *write_mutated(folder, options.mutated)]
        began = time.monotonic()
        outcomes, differing, largest = hostile_run(folder, images)
    counts = ", ".join(f"{count} {outcome}" for outcome, count in outcomes.most_common())
    print(
        f"| {len(found)} hostile and {options.mutated} mutated files in one run | {len(images)} rows | {outcomes.total()} rows "
        f"({counts}); {differing} tags differ from those of the good rows alone; no process that decodes over "
        f"{largest / 2**20:.0f} MiB; {time.monotonic() - began:.0f} s, {os.cpu_count()} cores |"
    )


if __name__ == "__main__":
    main()
