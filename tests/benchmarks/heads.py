"""Measure the heads that labelled rows fit, on rows that they have not seen: accuracy, macro F1, seconds, and curves over shots.

python tests/benchmarks/heads.py LEARN.parquet TEST.parquet --truth-column label --image-root FOLDER --picture heads.png
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import torch
import torch.nn.functional as F
from common import LABELS, machine, print_table
from sklearn.metrics import f1_score

from tagger.catalog.object_storage import Workspace
from tagger.inference.job import open_job
from tagger.inference.load import open_engine
from tagger.settings.load import load_settings
from tagger.settings.options import Machine
from tagger.training.choose_head import AUTO, ZERO_SHOT, choose_head
from tagger.training.dataset import embed, read_labelled
from tagger.training.head_methods import METHODS, Head
from tagger.training.labelled_embeddings import LabelledEmbeddings

MODEL = Path(__file__).parents[2] / "sample_catalog" / "model"
SHOTS = (1, 2, 4, 8, 16)


def read(manifest: Path, options: argparse.Namespace) -> LabelledEmbeddings:
    attribute = {
        "name": "category",
        "labels": LABELS,
        "truth_column": options.truth_column,
        "templates": ["A photo of a {label}."],
    }
    config = {
        "model": {"name": str(options.model)},
        "manifest": {"image_root": str(options.image_root)},
        "attribute": [attribute],
    }
    with Workspace() as space:
        job = open_job(str(manifest), load_settings(str(manifest), config), space)
        with open_engine(job, Machine()) as engine:
            examples = embed(read_labelled(job.manifest, job.attributes), engine, lambda _: None)
            (head,) = engine.predictor._heads
    embeddings = torch.from_numpy(np.asarray(examples.embeddings, np.float32))
    return LabelledEmbeddings(
        embeddings=F.normalize(embeddings, dim=1),
        truth=torch.from_numpy(examples.truth),
        label_embeddings=head.label_embeddings,
        logit_scale=head.logit_scale,
    )


def fit(system: str, rows: LabelledEmbeddings, seed: int) -> Head:
    if system == ZERO_SHOT:
        return rows.zero_shot
    return choose_head(rows, seed=seed).head or rows.zero_shot if system == AUTO else METHODS[system](rows, seed)


def few(rows: LabelledEmbeddings, shots: int, seed: int) -> LabelledEmbeddings:
    shuffled = torch.from_numpy(np.random.default_rng(seed).permutation(len(rows)))
    return rows.part(torch.cat([shuffled[rows.truth[shuffled] == label][:shots] for label in range(rows.classes)]))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("learn", type=Path)
    parser.add_argument("test", type=Path)
    parser.add_argument("--truth-column", default="label")
    parser.add_argument("--image-root", type=Path, required=True)
    parser.add_argument("--model", type=Path, default=MODEL)
    parser.add_argument("--draws", type=int, default=20)
    parser.add_argument("--picture", type=Path)
    options = parser.parse_args()
    rows, test = read(options.learn, options), read(options.test, options)
    print(f"{len(rows)} rows to learn from, {len(test)} to test with, {options.draws} draws. {machine('scikit-learn')}")
    table = []
    for system in (ZERO_SHOT, *METHODS, AUTO):
        began = time.perf_counter()
        head = fit(system, rows, 0)
        seconds = time.perf_counter() - began
        found = head(test.embeddings).argmax(1)
        means = [
            float(np.mean([(fit(system, few(rows, shots, seed), seed)(test.embeddings).argmax(1) == test.truth).float().mean()
                           for seed in range(options.draws)]))
            for shots in SHOTS
        ]  # fmt: skip
        accuracy, f1 = float((found == test.truth).float().mean()), f1_score(test.truth, found, average="macro")
        table.append([system, f"{accuracy:.1%}", f"{f1:.3f}", f"{seconds:.1f}", *(f"{mean:.1%}" for mean in means)])
        plt.plot(SHOTS, means, marker="o", label=system)
    print_table(["system", "accuracy", "macro F1", "seconds", *(f"{shots} shots" for shots in SHOTS)], table)
    if options.picture:
        plt.xscale("log", base=2)
        plt.xlabel("labelled rows of each label")
        plt.ylabel("accuracy")
        plt.legend()
        plt.savefig(options.picture, dpi=120)


if __name__ == "__main__":  # workers are separate processes
    main()
