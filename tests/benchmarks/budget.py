"""Compare the job with what the cores could give at most: in turn, for several rounds, with medians and ratios.

python tests/benchmarks/budget.py --jobs torch:auto torch:bf16 openvino:bf16 openvino:int8

With m images per second of the model alone, and d seconds of one core to read and decode an image, c cores give at most
1 / (1 / m + d / c) images per second: the budget. The model alone is the encoder of the same run over random pixels; decoding
is what a run's decoding process does with an image, in one process and with nothing beside it. Both are timed in each round.
"""

from __future__ import annotations

import argparse
import os
import tempfile
import time
from pathlib import Path

from common import add_arguments, describe, machine, make_catalogue, model_alone, print_table, size, spread, tag
from make_model import make
from peers import job_options

from tagger.core.memory import keep_freed_memory
from tagger.core.types import ImagePolicy, ImageRef
from tagger.encoders.clip_preprocessing import read_preprocessing
from tagger.images.loader import ImageDataset
from tagger.images.reading import Reading


def decoding_seconds(manifest: Path, model: Path) -> float:
    """Return the seconds of one core that reading and decoding an image takes."""
    policy = ImagePolicy(roots=(manifest.parent.resolve(),))
    dataset = ImageDataset(Reading(policy=policy, preprocessings={"clip": read_preprocessing(model, str(model))}, workers=0))
    refs = [ImageRef(row, f"images/{file.name}") for row, file in enumerate(sorted((manifest.parent / "images").iterdir()))]
    dataset.__getitems__(refs[:32])  # imports what it needs
    began = time.process_time()
    dataset.__getitems__(refs)
    return (time.process_time() - began) / len(refs)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_arguments(parser, count=511)
    parser.add_argument("--size", type=size, default=(400, 533))
    parser.add_argument("--jobs", nargs="+", default=["torch:auto", "torch:bf16"], help="back-end:precision")
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    make(options.model)
    keep_freed_memory()  # as a run and its decoding processes do
    cores = len(os.sched_getaffinity(0))
    found: dict[str, list[tuple[float, float, float]]] = {job: [] for job in options.jobs}
    with tempfile.TemporaryDirectory() as name:
        manifest = make_catalogue(Path(name) / "catalogue", options.photos, options.count, options.size)
        print(f"{describe(manifest)}; {options.rounds} rounds. {machine('tagger', 'pillow')}", flush=True)
        for _ in range(options.rounds):
            for job in options.jobs:
                rate = tag(manifest, options.model, "--no-cache", *job_options(job))["images_per_second"]
                alone = model_alone(manifest, options.model, *job_options(job))
                decoding = decoding_seconds(manifest, options.model)
                found[job].append((rate, alone, decoding))
    rows = []
    for job, rounds in found.items():
        rates, alone, decoding = zip(*rounds, strict=True)
        budgets = [1 / (1 / m + d / cores) for _, m, d in rounds]
        ratios = [rate / budget for rate, budget in zip(rates, budgets, strict=True)]
        milliseconds = [1000 * d for d in decoding]
        rows.append([job, spread(rates), spread(alone), spread(milliseconds, 2), spread(budgets), spread(ratios, 2)])
    print_table(["job", "images per second", "model alone", "decoding, ms of a core", "budget", "job ÷ budget"], rows)


if __name__ == "__main__":
    main()
