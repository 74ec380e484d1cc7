"""Measure the heads that labelled rows fit: on rows of another manifest, on held-out rows of both, and with few rows a label.

python tests/benchmarks/heads.py adapt.parquet validation.parquet --image-root photos --truth label
python tests/benchmarks/heads.py adapt.parquet validation.parquet --image-root photos --truth label --codes

Rows of one product, and of nearly the same picture, are never on both sides of a split. `auto` is what `tagger train head`
would write, and zero-shot where it would write nothing. With --codes each label is a code of which the prompts know nothing.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import torch
from common import LABELS, machine, print_table
from numpy.typing import NDArray
from sklearn.metrics import f1_score

from tagger.catalog.object_storage import Workspace
from tagger.catalog.product_column import find_product_column, read_products
from tagger.evaluation.paired import Difference, paired_difference
from tagger.inference.job import open_job
from tagger.inference.load import open_engine
from tagger.settings.load import load_settings
from tagger.settings.options import Machine
from tagger.training.choose_head import AUTO, ZERO_SHOT, choose_head
from tagger.training.dataset import embed, read_labelled
from tagger.training.head_methods import METHODS, Head
from tagger.training.labelled_embeddings import LabelledEmbeddings
from tagger.training.row_groups import groups_of

MODEL = Path(__file__).parents[2] / "sample_catalog" / "model"
SHOTS = (1, 2, 4, 8, 16)
FOLDS = 5
HEADS = ("system", "accuracy", "macro F1", "above zero-shot, points")

Fit = Callable[[LabelledEmbeddings, int], Head]


def read(manifest: Path, options: argparse.Namespace) -> LabelledEmbeddings:
    """Embed the rows of a manifest, as `tagger train head` does."""
    labels = [{"name": name, "prompts": [f"A photo of a A{number:02}."]} for number, name in enumerate(LABELS)]
    attribute = {
        "name": "category",
        "labels": labels if options.codes else LABELS,
        "truth_column": options.truth,
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
            [head] = engine.predictor.heads
        assert examples.embeddings is not None
        products = read_products(job.manifest, find_product_column(job.manifest, None), examples.rows)
    return LabelledEmbeddings.from_engine(examples.embeddings, examples.truth, head, groups_of(examples.embeddings, products))


def join(first: LabelledEmbeddings, second: LabelledEmbeddings) -> LabelledEmbeddings:
    embeddings = torch.cat([first.embeddings, second.embeddings])
    return LabelledEmbeddings(
        embeddings=embeddings,
        truth=torch.cat([first.truth, second.truth]),
        label_embeddings=first.label_embeddings,
        logit_scale=first.logit_scale,
        groups=torch.cat([first.groups, second.groups + int(first.groups.max()) + 1]),
    )


def right(head: Head, rows: LabelledEmbeddings) -> NDArray[np.float64]:
    return (head(rows.embeddings).argmax(1) == rows.truth).double().numpy()


def auto(rows: LabelledEmbeddings, seed: int) -> Head:
    return choose_head(rows, seed=seed).head or rows.zero_shot


def points(difference: Difference) -> str:
    return f"{100 * difference.mean:+.1f} ({100 * difference.low:+.1f} to {100 * difference.high:+.1f})"


def judge(fit: Fit, learn: LabelledEmbeddings, test: LabelledEmbeddings, seeds: int) -> list[str]:
    """Fit on one manifest, judge on the other; the mean of the seeds."""
    correct, f1, seconds = [], [], []
    for seed in range(seeds):
        began = time.perf_counter()
        head = fit(learn, seed)
        seconds.append(time.perf_counter() - began)
        correct.append(right(head, test))
        f1.append(f1_score(test.truth, head(test.embeddings).argmax(1), average="macro"))
    mean = np.mean(correct, axis=0)
    accuracies = np.mean(correct, axis=1)
    spread = "" if np.ptp(accuracies) == 0 else f" ({accuracies.min():.1%} to {accuracies.max():.1%})"
    difference = paired_difference(mean, right(test.zero_shot, test), test.group_of_row)
    return [f"{mean.mean():.1%}{spread}", f"{np.mean(f1):.3f}", points(difference), f"{np.median(seconds):.2f}"]


def hold_out(fit: Fit, rows: LabelledEmbeddings, repeats: int) -> list[str]:
    """Fit on four folds, judge on the fifth, each row once a repeat; the mean of the repeats."""
    correct, predicted = np.zeros(len(rows)), []
    for seed in range(repeats):
        answers = np.full(len(rows), -1)
        for fitted, held_out in rows.folds(FOLDS, seed):
            answers[held_out] = fit(fitted, seed)(rows.embeddings[held_out]).argmax(1).numpy()
        correct += (answers == rows.truth.numpy()) / repeats
        predicted.append(f1_score(rows.truth, answers, average="macro"))
    difference = paired_difference(correct, right(rows.zero_shot, rows), rows.group_of_row)
    return [f"{correct.mean():.1%}", f"{np.mean(predicted):.3f}", points(difference)]


def few_shot(rows: LabelledEmbeddings, draws: int) -> Iterator[list[str]]:
    """Judge what `auto` keeps of so many rows a label on all rows that are of no group that was drawn."""
    zero_shot = right(rows.zero_shot, rows)
    for shots in SHOTS:
        gains, kept = [], 0
        for seed in range(draws):
            shuffled = torch.from_numpy(np.random.default_rng(seed).permutation(len(rows)))
            drawn = torch.cat([shuffled[rows.truth[shuffled] == label][:shots] for label in range(rows.classes)])
            choice = choose_head(rows.part(drawn), seed=seed)
            kept += choice.head is not None
            others = ~np.isin(rows.group_of_row, rows.group_of_row[drawn.numpy()])
            gains.append((right(choice.head or rows.zero_shot, rows) - zero_shot)[others].mean())
        yield [
            f"{shots}",
            f"{100 * np.mean(gains):+.2f} ({100 * min(gains):+.1f} to {100 * max(gains):+.1f})",
            f"{kept} of {draws}",
        ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("learn", type=Path)
    parser.add_argument("test", type=Path)
    parser.add_argument("--truth", required=True)
    parser.add_argument("--image-root", type=Path, required=True)
    parser.add_argument("--model", type=Path, default=MODEL)
    parser.add_argument("--codes", action="store_true")
    parser.add_argument("--seeds", type=int, default=8)
    parser.add_argument("--repeats", type=int, default=4)
    parser.add_argument("--draws", type=int, default=20)
    options = parser.parse_args()
    learn, test = read(options.learn, options), read(options.test, options)
    both = join(learn, test)
    systems: dict[str, Fit] = {ZERO_SHOT: lambda rows, _: rows.zero_shot, **METHODS, AUTO: auto}
    print(f"{len(learn)} rows to learn from, {len(test)} to judge with; {options.seeds} seeds. {machine('scikit-learn')}")
    print_table((*HEADS, "seconds to fit"), ([name, *judge(fit, learn, test, options.seeds)] for name, fit in systems.items()))
    print(f"\nAll {len(both)} rows in {FOLDS} folds, {options.repeats} times.")
    print_table(HEADS, ([name, *hold_out(fit, both, options.repeats)] for name, fit in systems.items()))
    print(f"\nFew rows a label, {options.draws} draws.")
    print_table(("rows a label", "what auto keeps, above zero-shot, points", "a head was kept"), few_shot(both, options.draws))


if __name__ == "__main__":  # workers are separate processes
    main()
