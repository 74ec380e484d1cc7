"""Compare settings of distribution-aware prompt tuning on held-out folds of labelled photos.

python tests/benchmarks/dapt.py

Rows of nearly the same picture are in one fold. What `tagger train prompts-dapt` takes was chosen by this table.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import product
from pathlib import Path

import numpy as np
import torch
from common import DATA, LABELS, machine, print_table
from finetuning import write_manifest
from make_model import SAMPLE
from sklearn.model_selection import StratifiedGroupKFold

from tagger.catalog.object_storage import Workspace
from tagger.encoders.clip import load_parts
from tagger.inference.job import open_job
from tagger.inference.load import open_engine
from tagger.settings.load import load_settings
from tagger.settings.options import Machine
from tagger.training import dapt
from tagger.training.dataset import WHOLE, embed, read_labelled
from tagger.training.row_groups import groups_of

SETTINGS = ("LEARNING_RATE", "INTER", "INTRA", "PATCHES", "STEPS")


@contextmanager
def settings(*values: float) -> Iterator[None]:
    before = [getattr(dapt, name) for name in SETTINGS]
    for name, value in zip(SETTINGS, values, strict=True):
        setattr(dapt, name, value)
    yield
    for name, value in zip(SETTINGS, before, strict=True):
        setattr(dapt, name, value)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--photos", type=Path, default=DATA / "clothing" / "adapt", help="folder with a folder for each label")
    parser.add_argument("--folds", type=int, default=4)
    parser.add_argument("--rates", type=float, nargs="+", default=[0.002, 0.01])
    parser.add_argument("--dispersions", nargs="+", default=["0,0", "1,0", "0,1", "1,1"], help="of texts and of images")
    parser.add_argument("--patches", type=int, nargs="+", default=[8])
    parser.add_argument("--steps", type=int, nargs="+", default=[100])
    options = parser.parse_args()
    parts = load_parts(str(SAMPLE), None)
    with tempfile.TemporaryDirectory() as name, Workspace() as space:
        manifest = str(write_manifest(Path(name) / "photos.parquet", options.photos))
        config = {"labels": list(LABELS), "manifest": {"image_root": "/"}, "model": {"name": str(SAMPLE)}}
        job, pixels = open_job(manifest, load_settings(manifest, config), space), {WHOLE: parts.preprocessing}
        with open_engine(job, Machine(), pixels=pixels) as engine:
            read = embed(read_labelled(job.manifest, job.attributes), engine, lambda _: None, pixels, Path(name))
            zero_shot = engine.predictor.probabilities(read.embeddings)[0].argmax(1)
        truth, groups = read.truth, groups_of(read.embeddings, None)
        folds = list(StratifiedGroupKFold(options.folds, shuffle=True, random_state=0).split(truth, truth, groups))
        rows = [["zero-shot", "", "", "", "", f"{100 * (zero_shot == truth).mean():.1f}", "", ""]]
        dispersions = [tuple(map(float, one.split(","))) for one in options.dispersions]
        for rate, (inter, intra), patches, steps in product(options.rates, dispersions, options.patches, options.steps):
            right, seconds = np.empty(len(truth), np.bool_), []
            for seed, (learn, test) in enumerate(folds):
                began = time.perf_counter()
                with settings(rate, inter, intra, patches, steps):
                    learned = dapt.fit_dapt(parts, read.pixels[WHOLE][torch.from_numpy(learn)], truth[learn], LABELS, seed)
                seconds.append(time.perf_counter() - began)
                found = dapt.predict(parts, learned, LABELS, read.pixels[WHOLE][torch.from_numpy(test)])
                right[test] = found.argmax(1) == truth[test]
            each = ", ".join(f"{100 * right[test].mean():.1f}" for _, test in folds)
            measured = [f"{100 * right.mean():.1f}", each, f"{statistics.median(seconds):.0f}"]
            rows.append(["dapt", f"{rate:g}", f"{inter:g}, {intra:g}", str(patches), str(steps), *measured])
            print(rows[-1], flush=True)
    print(machine())
    print_table(["system", "rate", "dispersions", "patches", "steps", "accuracy, %", "of the folds", "seconds to fit"], rows)


if __name__ == "__main__":
    main()
