"""Give the benchmarks what they share: a catalogue of real photos, a run of the command line, a description of the machine."""

from __future__ import annotations

import argparse
import json
import os
import platform
import random
import statistics
import subprocess
import sys
import time
from collections.abc import Iterable, Sequence
from concurrent.futures import ProcessPoolExecutor
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image, ImageOps

HERE = Path(__file__).parent
CACHE = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "tagger-benchmarks"
DATA = Path(os.environ.get("TAGGER_TEST_DATA", HERE.parents[2] / "shared" / "data"))
LABELS = ("dress", "hat", "longsleeve", "outwear", "pants", "shirt", "shoes", "shorts", "skirt", "t-shirt")
QUALITY = 76  # of the JPEGs: 31 KB on average at 400x533

Size = tuple[int, int]


def size(text: str) -> Size:
    """Parse an argument such as 400x533."""
    width, height = map(int, text.split("x"))
    return width, height


def add_arguments(parser: argparse.ArgumentParser, count: int) -> None:
    """Add the arguments of every benchmark on photos."""
    parser.add_argument("--photos", type=Path, default=DATA / "clothing", help="folder of JPEGs; default: in TAGGER_TEST_DATA")
    parser.add_argument("--count", type=int, default=count, help="images in the catalogue")
    parser.add_argument("--model", type=Path, default=CACHE / "vit-b-32", help="checkpoint; made by make_model.py if absent")


def make_catalogue(folder: Path, photos: Path, count: int, picture_size: Size) -> Path:
    """Make JPEGs of this size and a manifest of them, the same ones every time; return the manifest's path."""
    sources = sorted(photos.rglob("*.jpg"))
    if not sources:
        sys.exit(f"{photos}: expected JPEGs, found none; name a folder of photos with --photos")
    images = folder / "images"
    images.mkdir(parents=True)
    names = [f"{number:06d}.jpg" for number in range(count)]
    with ProcessPoolExecutor() as pool:
        places = [(number, sources[number * 7 % len(sources)], images / name) for number, name in enumerate(names)]
        list(pool.map(_picture, places, [picture_size] * count, chunksize=16))
    pq.write_table(pa.table({"image_path": [f"images/{name}" for name in names]}), folder / "manifest.parquet")
    return folder / "manifest.parquet"


def _picture(place: tuple[int, Path, Path], picture_size: Size) -> None:
    """Save one photo, cropped and perhaps mirrored as no other is, so that no two files are the same."""
    number, source, target = place
    dice = random.Random(number)
    with Image.open(source) as photo:
        cut = (dice.random(), dice.random())
        picture = ImageOps.fit(photo.convert("RGB"), picture_size, Image.Resampling.LANCZOS, dice.uniform(0, 0.08), cut)
        if dice.random() < 0.5:
            picture = ImageOps.mirror(picture)
        picture.save(target, quality=QUALITY)


def describe(manifest: Path) -> str:
    """Describe the catalogue in words."""
    files = sorted((manifest.parent / "images").iterdir())
    with Image.open(files[0]) as first:
        width, height = first.size
    average = sum(file.stat().st_size for file in files) / len(files) / 1000
    return f"{len(files):,} JPEGs of {width}x{height}, {average:.0f} KB on average"


def tag(manifest: Path, model: Path, *options: object) -> dict[str, Any]:
    """Run the command line once as a process of its own; return its summary, and `process_seconds`."""
    command = [sys.executable, "-m", "tagger", "run", str(manifest), "--quiet", "--overwrite"]
    command += ["--model", str(model), "--labels", ",".join(LABELS), *map(str, options)]
    began = time.perf_counter()
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    seconds = time.perf_counter() - began
    summary = json.loads((manifest.with_name(f"{manifest.stem}.tagged.run") / "summary.json").read_text())
    if errors := summary["errors"]:
        sys.exit(f"{manifest}: expected no errors, found {errors}; they would make the run look fast")
    return {**summary, "process_seconds": seconds}


def last_json(command: Sequence[object], **options: Any) -> dict[str, Any]:
    """Run a program of the benchmarks; return the JSON on the last line of its stdout, and `process_seconds`."""
    began = time.perf_counter()
    done = subprocess.run([*map(str, command)], check=True, capture_output=True, text=True, **options)
    return {**json.loads(done.stdout.splitlines()[-1]), "process_seconds": time.perf_counter() - began}


def model_alone(manifest: Path, model: Path, *options: object) -> float:
    """Measure the encoder of a run with these options alone, in a process of its own; return images per second."""
    names = ["--model", model, "--labels", ",".join(LABELS), *options]
    return float(last_json([sys.executable, HERE / "model_alone.py", manifest, *names])["images_per_second"])


def machine(*packages: str) -> str:
    """Return date, processor, cores and versions, for the line above a table."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    versions = ", ".join(f"{name} {version(name)}" for name in ("torch", "transformers", *packages))
    return f"{datetime.now(UTC):%Y-%m-%d}, {cores} cores ({_processor()}), Python {platform.python_version()}, {versions}."


def _processor() -> str:
    information = Path("/proc/cpuinfo")
    lines = information.read_text().splitlines() if information.exists() else []
    values = {key.strip(): value for key, _, value in (line.partition(": ") for line in lines)}
    sets = [name for name in ("avx2", "avx512f", "avx512_bf16", "amx_bf16") if name in values.get("flags", "").split()]
    return ", ".join([values.get("model name", platform.machine()), *sets[-2:]])


def spread(values: Iterable[float], digits: int = 1) -> str:
    """Format median, lowest and highest."""
    found = list(values)
    return f"{statistics.median(found):,.{digits}f} ({min(found):,.{digits}f} to {max(found):,.{digits}f})"


def print_table(heads: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """Print a table as Markdown."""
    print(f"\n| {' | '.join(heads)} |\n{'|---' * len(heads)}|")
    for row in rows:
        print(f"| {' | '.join(map(str, row))} |", flush=True)
