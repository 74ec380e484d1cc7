"""Simulate months in which a person corrects 50 rows a night, and draw how good the tags become of rows that nobody corrects.

Each month has other rows. A share of them is held out: these are never shown to anybody. Nothing is known of the others on the
first night. Each night learns a head from what is known (`tagger train head`, against the head of the night before), tags both
parts (`tagger run`), asks for the first rows of the review queue (`tagger review`), answers with their truth, and writes that
into the catalogue (`tagger review apply`). A month ends early when the queue is empty. All is done twice: with the labels as they
are, and with codes ("A01") in their place, of which the prompts know nothing.

python tests/benchmarks/month.py adapt.parquet validation.parquet --image-root photos --truth label --out jobs/learning.svg
"""

from __future__ import annotations

import argparse
import itertools
import logging
import tempfile
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from common import machine, print_table
from matplotlib import rc_context
from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter

import tagger
from tagger import HeadRecipe, Machine, Output
from tagger.core.errors import GateError, ManifestError
from tagger.evaluation.duplicates import near_duplicates
from tagger.reports.plots import BLUE, GREY, STYLE

MODEL = Path(__file__).parents[2] / "sample_catalog" / "model"
REFUSED, REPLACED, STAYED = "refused", "replaced", "stayed"  # what became of a night's learning
SETS = {"words": "labels as they are", "codes": "labels that are codes"}

log = logging.getLogger("month")


class Night(NamedTuple):
    """Hold what a night knew, what became of its learning, and how good its tags of the held-out rows are, shares of 1."""

    corrected: int
    learning: str
    method: str
    accuracy: float
    macro_f1: float


class Month:
    """A catalogue, held-out rows and the head in a folder; the embeddings come from the cache that all months share."""

    def __init__(self, folder: Path, rows: pa.Table, held_out: np.ndarray, options: argparse.Namespace) -> None:
        self._catalogue, self._held_out = folder / "catalogue.parquet", folder / "held_out.parquet"
        self._head, self._corrections = folder / "head.safetensors", folder / "corrections.parquet"
        self._options, self._overrides = options, overrides(options)
        self._truth = dict(zip(rows["product_id"].to_pylist(), rows["category"].to_pylist(), strict=True))
        self._labels = sorted(set(self._truth.values()))
        unknown = rows.filter(pa.array(~held_out))
        pq.write_table(unknown.set_column(2, "category", pa.nulls(len(unknown), pa.string())), self._catalogue)
        pq.write_table(rows.filter(pa.array(held_out)), self._held_out)

    def night(self) -> Night:
        """Learn, and tag both parts."""
        learning, method = self._learn()
        self._tag(self._catalogue)
        summary = self._tag(self._held_out)
        assert summary.evaluation is not None
        found = summary.evaluation.attributes["category"]
        known = pq.read_table(self._catalogue, columns=["category"])["category"]
        return Night(len(known) - known.null_count, learning, method, found.accuracy, found.macro_f1)

    def correct(self) -> bool:
        """Ask for tonight's rows and write the answers into the catalogue; False where there is nothing to ask."""
        result = self._catalogue.with_name("catalogue.tagged.parquet")
        tagger.review(result, format="parquet", budget=self._options.corrections, output=self._corrections, workers=0)
        asked = pq.read_table(self._corrections)
        if not len(asked):
            return False
        answers = [self._truth[name] for name in asked["id"].to_pylist()]
        for name, values in (("correction", answers), ("by", ["a person"] * len(asked))):
            asked = asked.set_column(asked.schema.names.index(name), name, pa.array(values, pa.string()))
        pq.write_table(asked, self._corrections)
        tagger.apply_corrections(self._corrections, self._catalogue, self._settings(), **self._overrides)
        return True

    def _settings(self) -> dict[str, Any]:
        head = {"head": str(self._head)} if self._head.exists() else {}
        attribute = {"name": "category", "labels": self._labels, "truth_column": "category", **head}
        return {"manifest": {"id_column": "product_id"}, "attribute": [attribute]}

    def _learn(self) -> tuple[str, str]:
        options: dict[str, Any] = {"recipe": HeadRecipe(method=self._options.method), "machine": Machine(workers=0)}
        try:
            trained = tagger.train_head(
                self._catalogue, self._head, self._settings(), overwrite=True, **options, **self._overrides
            )
        except (GateError, ManifestError) as error:  # nothing is better than the prompts; on the first night nothing is known
            log.warning("%s", error)
            return REFUSED, ""
        log.warning("%s", trained.to_text())
        return REPLACED if trained.written else STAYED, trained.choice.method

    def _tag(self, manifest: Path) -> tagger.RunSummary:
        output = Output(overwrite=True, report=False)
        return tagger.run(manifest, self._settings(), output=output, machine=Machine(workers=0), **self._overrides)


def overrides(options: argparse.Namespace) -> dict[str, Any]:
    return {"model": str(options.model), "image_root": options.image_root, "cache": options.cache}


def read_rows(options: argparse.Namespace) -> pa.Table:
    """Return the rows of all manifests that have truth: product_id (their place), image_path, category."""
    tables = [pq.read_table(name, columns=["image_path", options.truth]) for name in options.manifests]
    table = pa.concat_tables(tables).rename_columns(["image_path", "category"])
    table = table.filter(table["category"].is_valid())
    return table.add_column(0, "product_id", pa.array([f"p{number}" for number in range(len(table))]))


def coded(rows: pa.Table) -> pa.Table:
    """Return the rows with a code in the place of each label: A00, A01 …"""
    code = {label: f"A{number:02}" for number, label in enumerate(sorted(set(rows["category"].to_pylist())))}
    return rows.set_column(2, "category", pa.array([code[label] for label in rows["category"].to_pylist()]))


def picture_groups(folder: Path, rows: pa.Table, options: argparse.Namespace) -> np.ndarray:
    """Fill the cache; return int64 (N,), the same for rows whose pictures are nearly the same."""
    pq.write_table(rows, folder / "all.parquet")
    settings = {"attribute": [{"name": "category", "labels": sorted(set(rows["category"].to_pylist()))}]}
    tagger.run(folder / "all.parquet", settings, output=Output(report=False), **overrides(options))
    return near_duplicates(np.load(folder / "all.tagged.run" / "sketches.npy"))


def hold_out(groups: np.ndarray, share: float, seed: int) -> np.ndarray:
    """Return bool (N,): rows of whole groups, drawn until they are at least this share."""
    order = np.random.default_rng(seed).permutation(groups.max() + 1)
    sizes = np.bincount(groups)[order]
    return np.isin(groups, order[: int(np.searchsorted(sizes.cumsum(), share * len(groups))) + 1])


def pass_month(options: argparse.Namespace, root: Path, groups: np.ndarray, which: tuple[str, int]) -> list[Night]:
    """Return the nights of one month. which: of SETS, and the number of the month."""
    labels, seed = which
    rows = read_rows(options)
    folder = root / f"{labels}{seed}"
    folder.mkdir()
    month = Month(folder, coded(rows) if labels == "codes" else rows, hold_out(groups, options.held_out, seed), options)
    nights = []
    for number in range(options.nights):
        nights.append(month.night())
        log.warning("%s, month %d, night %d: %s", labels, seed + 1, number + 1, nights[-1])
        if not month.correct():
            break
    return nights


def draw(found: dict[str, Sequence[Sequence[Night]]], path: Path) -> None:
    """Draw the accuracy of the held-out rows by rows looked at: mean, lowest and highest of the months, and the first night's."""
    with rc_context(STYLE):
        figure = Figure(figsize=(8, 3), layout="constrained")
        for axes, (labels, months) in zip(figure.subplots(1, len(found)), found.items(), strict=True):
            nights = min(map(len, months))
            accuracy = np.array([[night.accuracy for night in month[:nights]] for month in months])
            looked_at = [night.corrected for night in months[0][:nights]]
            axes.fill_between(looked_at, accuracy.min(0), accuracy.max(0), color=BLUE, alpha=0.15, linewidth=0)
            axes.plot(looked_at, accuracy.mean(0), color=BLUE, marker="o", markersize=3)
            axes.axhline(accuracy[:, 0].mean(), color=GREY, linewidth=1, linestyle="--")
            axes.set_title(SETS[labels])
            axes.set_xlabel("rows that a person has looked at")
            axes.yaxis.set_major_formatter(PercentFormatter(1, decimals=0))
            axes.grid(axis="y")
        figure.axes[0].set_ylabel("accuracy on held-out rows")
        figure.savefig(path, metadata={"Date": None}, facecolor="white")


def tabulate(months: Sequence[Sequence[Night]]) -> None:
    """Print a row for each night: mean (lowest to highest), and in how many months what became of the learning."""
    rows = []
    for number in range(max(map(len, months))):
        going = [month for month in months if number < len(month)]
        nights = [month[number] for month in going]
        accuracy = np.array([night.accuracy for night in nights])
        gain = 100 * (accuracy - [month[0].accuracy for month in going])
        outcomes = [night.learning for night in nights]
        rows.append(
            [
                number + 1,
                round(np.mean([night.corrected for night in nights])),
                f"{accuracy.mean():.1%} ({accuracy.min():.1%} to {accuracy.max():.1%})",
                f"{gain.mean():+.1f} ({gain.min():+.1f} to {gain.max():+.1f})",
                f"{np.mean([night.macro_f1 for night in nights]):.3f}",
                ", ".join(f"{outcomes.count(one)} {one}" for one in (REPLACED, STAYED, REFUSED) if one in outcomes),
            ]
        )
    print_table(["night", "rows looked at", "accuracy", "points over the first night", "macro F1", "head"], rows)
    changes = [
        np.sign(tonight.accuracy - before.accuracy)
        for month in months
        for before, tonight in itertools.pairwise(month)
        if tonight.learning == REPLACED
    ]
    ways = {"better": 1, "worse": -1, "as good": 0}
    print(f"\nNew heads: {', '.join(f'{changes.count(sign)} {way}' for way, sign in ways.items())} on held-out rows.")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("manifests", nargs="+", help="all of whose rows the model has never seen")
    parser.add_argument("--image-root", required=True)
    parser.add_argument("--truth", default="category", help="truth column")
    parser.add_argument("--model", type=Path, default=MODEL)
    parser.add_argument("--method", default="auto", help="of `tagger train head`")
    parser.add_argument("--months", type=int, default=5, help="each with other rows")
    parser.add_argument("--nights", type=int, default=30)
    parser.add_argument("--corrections", type=int, default=50, help="a night")
    parser.add_argument("--held-out", type=float, default=0.25, help="share of the rows")
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--out", type=Path, required=True, help="the picture, for example learning.svg")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        options.cache = str(root / "cache")
        groups = picture_groups(root, read_rows(options), options)
        wanted = [(labels, seed) for labels in SETS for seed in range(options.months)]
        with ProcessPoolExecutor(options.processes, get_context("spawn")) as pool:
            nights = list(pool.map(partial(pass_month, options, root, groups), wanted))
    found = {labels: [month for one, month in zip(wanted, nights, strict=True) if one[0] == labels] for labels in SETS}
    draw(found, options.out)
    print(machine("numpy"))
    for labels, months in found.items():
        print(f"\n{SETS[labels]}; held out: {options.held_out:.0%} of {len(groups)} rows; {len(months)} months.")
        tabulate(months)


if __name__ == "__main__":  # images are read by processes of their own
    main()
