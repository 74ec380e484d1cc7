"""Measure an accelerator with one call: what each part of a run reaches alone, and what the whole job reaches, as Markdown.

python tests/benchmarks/gpu.py --photos FOLDER > sheet.md

The device is the one that a run would choose. What cannot be measured here becomes a line that says why. Model alone is the
run's image tower over pixels that are on the device already, at the batch size that is best for it. Decode alone is a run's
decoding processes without an encoder behind them, once all of them are at work. Copy alone is batches from the host's
page-locked memory to the device. Whole job is `tagger run` without a cache, from the first read to the published result. The
budget is the lowest of the first three: no whole job could reach more.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterable
from functools import partial
from operator import truediv
from pathlib import Path
from typing import Any

import torch
from common import LABELS, add_arguments, describe, machine, make_catalogue, print_table, size, spread, tag
from gpu_device import device_rows, utilisation
from gpu_input import PIECE, RawImages, copy_alone, decode_alone, load
from gpu_model import SMALLEST, VARIANTS, Probe, differences, embed, probe, rate_at, rows_of
from make_model import make
from peer_environment import DEFAULT, run_peer

from tagger.core.text import first_line
from tagger.encoders.backends import DTYPES, choose_device
from tagger.encoders.clip import load_clip
from tagger.images.workers import choose_workers, start_early

COMPARED = 512  # images whose embeddings are compared, and that are decoded whole
PARTS = ("model alone", "decode alone", "copy alone")
JOB, PEER, BUSY = "whole job", "open_clip", "GPU busy, %"

Rates = dict[str, list[float]]


def note(text: str) -> None:
    print(f"{time.strftime('%H:%M:%S')} {text}", file=sys.stderr, flush=True)


def attempt(what: str, action: Callable[[], Any]) -> Any:
    """Return what the action returns; None, and a line that says why, where it fails."""
    note(what)
    try:
        return action()
    except (Exception, SystemExit) as error:  # noqa: BLE001  # drivers raise anything at all; the other parts go on
        print(f"\n{what}: not measured: {type(error).__name__}: {first_line(error)}", flush=True)
        return None


class Sheet:
    """The measurements of one device, each printed as soon as it is made: a machine that is lent may end before the sheet."""

    def __init__(self, manifest: Path, options: argparse.Namespace, device: torch.device, workers: int) -> None:
        self.manifest, self.options, self.device, self.workers = manifest, options, device, workers
        self.encoder = load_clip(str(options.model), None, device)
        self.preprocessing = self.encoder.preprocessing
        self.size = self.preprocessing.size
        self.prompts = self.encoder.encode_prompts([f"a photo of a {label}" for label in LABELS]).cpu()
        self.best: dict[str, int] = {}  # batch size of the plain tower, by precision
        self.without: set[str] = set()  # what failed once, and need not be waited for again

    def tower(self, precision: str) -> Any:
        """Return the run's image tower in this precision."""
        return self.encoder.tower if precision == "fp32" else self.encoder.tower.in_dtype(DTYPES[precision])

    def model(self) -> None:
        """Print, for each precision and variant, the rate by batch size, and how far the embeddings are from those of fp32."""
        batches = load(self.manifest, self.preprocessing, self.workers, COMPARED)
        pixels = torch.cat([batch.pixels["clip"] for batch in batches])
        pixels = pixels[: len(pixels) // SMALLEST * SMALLEST]
        reference = embed("plain", self.tower("fp32"), pixels, self.device)
        parity = []
        if self.device.type != "cpu":
            cpu = torch.device("cpu")
            there = load_clip(str(self.options.model), None, cpu).tower
            compared = differences(embed("plain", there, pixels, cpu), reference, self.prompts)
            parity.append(("fp32", "plain, on the CPU", "", *compared))
        for precision in self.options.precisions:
            tower = self.tower(precision)
            probes = {variant: self.probe(precision, variant, tower) for variant in VARIANTS}
            print(f"\n### Model alone, {precision}: images per second by batch size")
            print_table(["batch", *probes], rows_of(probes))
            print(f"\n{'; '.join(f'{variant}: {one.end}' for variant, one in probes.items())}.")
            for variant, one in probes.items():
                if one.rates:
                    found = attempt(f"parity, {precision}, {variant}", partial(embed, variant, tower, pixels, self.device))
                    if found is not None:
                        parity.append((precision, variant, f"{one.ready:.2f}", *differences(found, reference, self.prompts)))
            if probes["plain"].rates:
                self.best[precision] = probes["plain"].best
        print(f"\n### Model alone: {len(pixels)} embeddings beside those of plain fp32 on {self.device}")
        heads = ["precision", "variant", "seconds to the first batch", "largest difference", "labels that change"]
        print_table(heads, [(*names, f"{largest:.2e}", changed) for *names, largest, changed in parity])

    def probe(self, precision: str, variant: str, tower: Any) -> Probe:
        note(f"model alone, {precision}, {variant}")
        return probe(variant, tower, self.size, self.device, self.options.seconds, self.options.largest_batch)

    def resize(self) -> None:
        """Print what decoding and resizing take one core, what resizing takes the device, and how far the pixels differ."""
        raw = RawImages(self.manifest, self.preprocessing, min(self.options.count, COMPARED))
        there = raw.per_second_there(self.device, self.options.seconds)
        print("\n### Resize and normalise on the device")
        rows = [
            ("decode whole, one core", f"{raw.decoded_per_second:,.1f}", ""),
            ("resize and normalise, one core", f"{raw.resized_per_second:,.1f}", ""),
            (f"copy whole, resize and normalise, {self.device}", f"{there:,.1f}", f"{raw.images[0].numel():,}"),
        ]
        print_table(["", "images per second", "bytes copied of an image"], rows)
        on_cpu, on_device = raw.resized(), raw.resized_there(self.device)
        apart = (on_cpu.int() - on_device.int()).abs()
        share = float((apart > 0).float().mean())
        print(f"\nPixels beside the CPU's: the largest difference is {int(apart.max())} of 255; {share:.2%} of values differ.")
        whole = len(on_cpu) // SMALLEST * SMALLEST
        embeddings = [embed("plain", self.tower("fp32"), pixels[:whole], self.device) for pixels in (on_device, on_cpu)]
        largest, changed = differences(*embeddings, self.prompts)
        print(f"Embeddings of both in fp32: the largest difference is {largest:.2e}; {changed} of {whole} labels change.")

    def copies(self) -> None:
        """Print the rate of copying from both kinds of memory."""
        print("\n### Copy alone")
        rows = []
        for kind, locked in (("page-locked", True), ("pageable", False)):
            action = partial(copy_alone, self.device, self.size, locked, self.options.seconds)
            if locked and self.device.type != "cuda":
                print(f"\ncopy alone, page-locked: not measured: expected an NVIDIA GPU, found {self.device}")
            elif rate := attempt(f"copy alone, {kind}", action):
                height, width = self.size
                rows.append((kind, f"{rate:,.0f}", f"{rate * 3 * height * width / 1e9:.2f}"))
        print_table([f"memory, batches of {PIECE}", "images per second", "GB/s"], rows)

    def rounds(self) -> None:
        """Print what a whole job reaches beside its parts and beside open_clip, all in turn."""
        options = self.options
        rates: dict[str, Rates] = {precision: {} for precision in options.precisions}
        locked = self.device.type == "cuda"
        for number in range(options.rounds):
            for precision, found in rates.items():
                actions: dict[str, Callable[[], Any]] = {
                    "decode alone": partial(decode_alone, self.manifest, self.preprocessing, self.workers, options.count),
                    "copy alone": partial(copy_alone, self.device, self.size, locked, options.seconds),
                    JOB: partial(self.whole_job, precision, found),
                    PEER: partial(self.open_clip, precision),
                }
                if precision in self.best:
                    actions["model alone"] = partial(self.model_alone, precision)
                if options.no_peers:
                    del actions[PEER]
                for what, action in actions.items():
                    name = f"{what}, {precision}"
                    if name not in self.without:
                        rate = attempt(f"{name}, round {number + 1} of {options.rounds}", action)
                        found.setdefault(what, []).append(rate) if rate else self.without.add(name)
        print("\n### The whole job: images per second (from, to)")
        heads = ["precision", *PARTS, JOB, PEER, BUSY]
        print_table(heads, [[one, *(shown(found.get(what, []), 1) for what in heads[1:])] for one, found in rates.items()])
        rows = []
        for precision, found in rates.items():
            budget = list(map(min, *(found.get(part, []) for part in PARTS)))
            limit = min(PARTS, key=lambda part: statistics.median(found[part])) if budget else ""
            ratios = (map(truediv, found.get(JOB, []), other) for other in (budget, found.get(PEER, [])))
            rows.append([precision, shown(budget, 1), limit, *(shown(ratio, 3) for ratio in ratios)])
        print_table(["precision", "budget", "which is", "job ÷ budget", "job ÷ open_clip"], rows)
        if options.no_peers:
            print("\nopen_clip: left out, as --no-peers says.")
        if not any(BUSY in found for found in rates.values()):
            print("\nGPU busy: not known; nvidia-smi and an NVIDIA GPU say it.")
        if self.device.type == "cpu":
            print("\nOn a CPU the parts share its cores: a whole job cannot reach the budget.")

    def model_alone(self, precision: str) -> float:
        return rate_at(self.tower(precision), self.best[precision], self.size, self.device, self.options.seconds)

    def whole_job(self, precision: str, found: Rates) -> float:
        """Return images per second; adds how busy the GPU was from the first read on, in percent, where that is known."""
        if self.device.type == "cuda":
            torch.cuda.empty_cache()  # the run is a process of its own, and wants the memory
        with utilisation(self.device) as samples:
            where = ("--device", self.device, "--precision", precision)
            done = tag(self.manifest, self.options.model, "--no-cache", "--no-report", *where)
        first = samples[-1][0] - done["stage_seconds"]["total"] if samples else 0.0
        if busy := [percent for moment, percent in samples if moment >= first]:
            found.setdefault(BUSY, []).append(statistics.mean(busy))
        return float(done["images_per_second"])

    def open_clip(self, precision: str) -> float:
        loop: list[object] = ["--device", self.device, "--dtype", str(DTYPES[precision]).removeprefix("torch.")]
        loop += ["--batch", PIECE, "--workers", self.workers, "--labels", ",".join(LABELS)]
        images, python = self.manifest.parent / "images", self.options.peers_python
        peer = run_peer("open_clip", self.options.peers_environment, images, *loop, python=python)
        if "failure" in peer:
            raise RuntimeError(peer["failure"])
        return float(peer["images_per_second"])


def shown(values: Iterable[float], digits: int) -> str:
    found = list(values)
    return spread(found, digits) if found else ""


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_arguments(parser, count=50_000)
    parser.add_argument("--size", type=size, default=(400, 533))
    parser.add_argument("--device", help="default: an accelerator where there is one, else the CPU")
    parser.add_argument("--precisions", nargs="+", choices=list(DTYPES), help="default: fp32 and bf16, and fp16 on a GPU")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=2.0, help="of each measurement that repeats something")
    parser.add_argument("--largest-batch", type=int, default=1 << 14, help="that the model is tried with")
    parser.add_argument("--peers-environment", type=Path, default=DEFAULT, help="folder; made with open_clip in it")
    parser.add_argument("--peers-python", type=Path, help="a Python that has open_clip, instead of an environment made here")
    parser.add_argument("--no-peers", action="store_true", help="without open_clip")
    options = parser.parse_args()
    if options.count < 2 * SMALLEST:
        parser.error(f"--count {options.count}: expected {2 * SMALLEST} images or more")
    return options


def main() -> None:
    options = parse()
    device = choose_device(options.device)
    fits = ["fp32", "bf16"] if device.type == "cpu" else ["fp32", "fp16", "bf16"]
    options.precisions = options.precisions or fits
    start_early()
    if not (options.model / "model.safetensors").exists():
        note(f"making {options.model}")
    make(options.model)
    workers = choose_workers(device.type)
    with tempfile.TemporaryDirectory() as name:
        note(f"making {options.count:,} JPEGs")
        manifest = make_catalogue(Path(name) / "catalogue", options.photos, options.count, options.size)
        print(f"## Sheet of {device}\n\n{machine('torchvision', 'tagger')}")
        print(f"{describe(manifest)}; {options.model.name}; {workers} decoding processes; rounds: {options.rounds}.")
        print_table(["device", str(device)], attempt("the device", partial(device_rows, device)) or [])
        sheet = Sheet(manifest, options, device, workers)
        attempt("model alone", sheet.model)
        sheet.copies()
        attempt("resize on the device", sheet.resize)
        sheet.rounds()


if __name__ == "__main__":  # the decoding processes are started from here
    main()
