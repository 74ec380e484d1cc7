"""Measure an accelerator: what each part of a run reaches alone, and what the whole job reaches.

python tests/benchmarks/gpu.py --photos FOLDER --precisions fp16 bf16

Model alone is the run's encoder over pixels that are on the device already. Decode alone is a run's decoding processes without
an encoder behind them, once all of them are at work. Copy alone is batches from the host's page-locked memory to the device.
Whole job is `tagger run` without a cache, from the first read to the published result. The lower of model and decode alone is
the most that a whole job could reach. Without an accelerator, `--device cpu --precisions fp32 --count 64` shows that the
script works.
"""

from __future__ import annotations

import argparse
import shutil
import statistics
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
from common import LABELS, add_arguments, describe, machine, make_catalogue, model_alone, print_table, size, spread, tag
from make_model import make
from peer_environment import DEFAULT, run_peer

from tagger.core.types import ImagePolicy, ImageRef
from tagger.encoders.clip_preprocessing import read_preprocessing
from tagger.images.reading import Reading
from tagger.images.resilient_loader import load_images
from tagger.images.workers import choose_workers, start_early

READ_TOGETHER = 32  # as `tagger run` does
PIECE = 256  # images that are copied, and that open_clip encodes, at once
DTYPES = {"fp32": "float32", "bf16": "bfloat16", "fp16": "float16"}

Rates = dict[str, list[float]]


def decode_alone(manifest: Path, model: Path, workers: int) -> float:
    """Return images per second of the decoding processes, timed once each has handed over what it had prepared."""
    refs = [ImageRef(row, f"images/{file.name}") for row, file in enumerate(sorted((manifest.parent / "images").iterdir()))]
    batches = [refs[start : start + READ_TOGETHER] for start in range(0, len(refs), READ_TOGETHER)]
    preprocessing = read_preprocessing(model, str(model))
    policy = ImagePolicy(roots=(manifest.parent.resolve(),))
    loaded = load_images(batches, Reading(policy=policy, preprocessings={"clip": preprocessing}, workers=workers))
    for _ in range(min(2 * workers, len(batches) // 2)):
        next(loaded)
    began = time.perf_counter()
    count = sum(len(batch.rows) for batch in loaded)
    return count / (time.perf_counter() - began)


def copy_alone(device: str, side: int = 224, seconds: float = 3.0) -> float:
    """Return images per second from the host to the device."""
    on_cuda = device.startswith("cuda")
    pixels = torch.zeros((PIECE, 3, side, side), dtype=torch.uint8, pin_memory=on_cuda)
    there = torch.empty_like(pixels, device=device)
    began, copied = time.perf_counter(), 0
    while time.perf_counter() - began < seconds:
        for _ in range(16):
            there.copy_(pixels, non_blocking=True)
        if on_cuda:
            torch.cuda.synchronize()
        copied += 16 * PIECE
    return copied / (time.perf_counter() - began)


@contextmanager
def utilisation() -> Iterator[list[tuple[float, float]]]:
    """Yield a list that holds (moment, percent) of the first NVIDIA GPU, several times a second, once the block has ended.

    It stays empty without such a GPU.
    """
    samples: list[tuple[float, float]] = []
    if shutil.which("nvidia-smi") is None or not torch.cuda.is_available():
        yield samples
        return
    query = ["nvidia-smi", "--id=0", "--query-gpu=utilization.gpu", "--format=csv,noheader,nounits", "--loop-ms=200"]
    with tempfile.TemporaryFile("w+") as output:
        began = time.perf_counter()
        process = subprocess.Popen(query, stdout=output)
        try:
            yield samples
        finally:
            process.terminate()
            process.wait()
        seconds = time.perf_counter() - began
        output.seek(0)
        lines = [float(line) for line in output.read().splitlines() if line.strip().isdigit()]
        samples += [(seconds * (number + 1) / len(lines), percent) for number, percent in enumerate(lines)]


def whole_job(manifest: Path, options: argparse.Namespace, precision: str) -> tuple[float, float | None]:
    """Return images per second, and how busy the GPU was from the first read on, in percent."""
    with utilisation() as samples:
        done = tag(manifest, options.model, "--no-cache", "--device", options.device, "--precision", precision)
    last = samples[-1][0] - done["stage_seconds"]["total"] if samples else 0.0
    busy = [percent for moment, percent in samples if moment >= last]
    return done["images_per_second"], statistics.mean(busy) if busy else None


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_arguments(parser, count=50_000)
    parser.add_argument("--size", type=size, default=(400, 533))
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--precisions", nargs="+", default=["fp16", "bf16"], choices=list(DTYPES))
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--peers-environment", type=Path, default=DEFAULT, help="folder; made with open_clip in it")
    parser.add_argument("--peers-python", type=Path, help="a Python that has open_clip, instead of an environment made here")
    options = parser.parse_args()
    make(options.model)
    start_early()
    workers = choose_workers(options.device.split(":")[0])
    rates: Rates = {}
    failure = ""
    with tempfile.TemporaryDirectory() as name:
        manifest = make_catalogue(Path(name) / "catalogue", options.photos, options.count, options.size)
        where = torch.cuda.get_device_name() if options.device.startswith("cuda") else options.device
        print(f"{describe(manifest)}; {options.rounds} rounds; {where}; {workers} decoding processes. {machine('tagger')}")
        for _ in range(options.rounds):
            rates.setdefault("decode alone", []).append(decode_alone(manifest, options.model, workers))
            rates.setdefault("copy alone", []).append(copy_alone(options.device))
            for precision in options.precisions:
                alone = model_alone(manifest, options.model, "--device", options.device, "--precision", precision)
                rates.setdefault(f"model alone, {precision}", []).append(alone)
                rate, busy = whole_job(manifest, options, precision)
                rates.setdefault(f"whole job, {precision}", []).append(rate)
                if busy is not None:
                    rates.setdefault(f"GPU busy meanwhile, %, {precision}", []).append(busy)
            loop = ["--device", options.device, "--dtype", DTYPES[options.precisions[0]], "--batch", PIECE]
            loop += ["--workers", workers, "--labels", ",".join(LABELS)]
            images, python = manifest.parent / "images", options.peers_python
            peer = run_peer("open_clip", options.peers_environment, images, *loop, python=python)
            failure = peer.get("failure", "")
            rates.setdefault(f"open_clip, {options.precisions[0]}", []).append(peer.get("images_per_second", float("nan")))
    print_table(["", "images per second (from, to)"], [[what, spread(found, 0)] for what, found in rates.items()])
    if failure:
        print(f"\nopen_clip {failure}")
    rows = []
    for precision in options.precisions:
        ours, model = rates[f"whole job, {precision}"], rates[f"model alone, {precision}"]
        least = [min(pair) for pair in zip(model, rates["decode alone"], strict=True)]
        others = rates[f"open_clip, {options.precisions[0]}"]
        rows.append([precision, *(spread((a / b for a, b in zip(ours, other, strict=True)), 2) for other in (least, others))])
    print_table(["whole job divided by", "lower of model and decode alone", f"open_clip, {options.precisions[0]}"], rows)


if __name__ == "__main__":  # the decoding processes are started from here
    main()
