"""Time decoding alone: by the job's processes, as many threads around the same function, and SPDL's threads if it is installed.

python tests/benchmarks/decoders.py --sizes 400x533 1600x2132

Prints images per second from files to uint8 pixels of 224x224, with 2 processes or threads, as medians of several rounds in
turn. SPDL (`pip install spdl`, and FFmpeg's libraries) decodes and resizes in FFmpeg's own way, so its pixels differ.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from importlib.util import find_spec
from pathlib import Path

import torch
from common import add_arguments, describe, machine, make_catalogue, print_table, size, spread

from tagger.core.memory import keep_freed_memory
from tagger.core.types import FORMATS, ImagePolicy, ImageRef, Preprocessing
from tagger.images.decode import read_pixels
from tagger.images.reading import Reading
from tagger.images.resilient_loader import load_images
from tagger.images.workers import start_early

WORKERS = 2
TOGETHER = 32
CLIP = Preprocessing(resize=224, crop=(224, 224), resample=3, rescale=1 / 255, mean=(0.0, 0.0, 0.0), std=(1.0, 1.0, 1.0))


def processes(files: list[Path]) -> float:
    """Return images per second, timed once every process has handed over a batch."""
    refs = [ImageRef(row, str(file)) for row, file in enumerate(files)]
    batches = [refs[start : start + TOGETHER] for start in range(0, len(refs), TOGETHER)]
    policy = ImagePolicy(roots=(files[0].parent,))
    loaded = load_images(batches, Reading(policy=policy, preprocessings={"clip": CLIP}, workers=WORKERS))
    for _ in range(2 * WORKERS):
        next(loaded)
    began = time.perf_counter()
    return sum(len(batch.rows) for batch in loaded) / (time.perf_counter() - began)


def threads(files: list[Path]) -> float:
    def decode(part: list[Path]) -> torch.Tensor:
        return torch.stack([read_pixels(file.read_bytes(), FORMATS, {"clip": CLIP})["clip"] for file in part])

    batches = [files[start : start + TOGETHER] for start in range(0, len(files), TOGETHER)]
    began = time.perf_counter()
    with ThreadPoolExecutor(WORKERS) as pool:
        count = sum(len(pixels) for pixels in pool.map(decode, batches))
    return count / (time.perf_counter() - began)


def spdl(files: list[Path]) -> float:
    import spdl.io

    def decode(part: list[Path]) -> int:
        frames = spdl.io.load_image_batch(list(map(str, part)), width=224, height=224, pix_fmt="rgb24", strict=True)
        return int(spdl.io.to_numpy(frames).shape[0])

    batches = [files[start : start + TOGETHER] for start in range(0, len(files), TOGETHER)]
    began = time.perf_counter()
    with ThreadPoolExecutor(WORKERS) as pool:
        count = sum(pool.map(decode, batches))
    return count / (time.perf_counter() - began)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_arguments(parser, count=1024)
    parser.add_argument("--sizes", nargs="+", type=size, default=[(400, 533), (1600, 2132)])
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    start_early()
    torch.set_num_threads(1)
    keep_freed_memory()
    ways: dict[str, Callable[[list[Path]], float]] = {"processes": processes, "threads": threads}
    if find_spec("spdl"):
        ways["SPDL"] = spdl
    rows = []
    for picture_size in options.sizes:
        with tempfile.TemporaryDirectory() as name:
            manifest = make_catalogue(Path(name) / "catalogue", options.photos, options.count, picture_size)
            files = sorted((manifest.parent.resolve() / "images").iterdir())
            rates: dict[str, list[float]] = {}
            for _ in range(options.rounds):
                for way, decode in ways.items():
                    rates.setdefault(way, []).append(decode(files))
            rows += [[describe(manifest), way, spread(found, 0)] for way, found in rates.items()]
    print(f"{WORKERS} workers, {options.rounds} rounds. {machine('tagger', *(['spdl'] if find_spec('spdl') else []))}")
    print_table(["images", "decoded by", "images per second (from, to)"], rows)


if __name__ == "__main__":  # the decoding processes are started from here
    main()
