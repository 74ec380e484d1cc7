"""Measure how many prediction sets hold the right label on real photos.

The photos are embedded once. For each split, `tagger calibrate`'s own function calibrates on a random half of them, and the sets
of the other half are judged.

python tests/benchmarks/prediction_sets.py
"""

from __future__ import annotations

import argparse
import math
import tempfile
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from common import DATA, LABELS, machine, print_table

from tagger import Machine
from tagger.catalog.object_storage import Workspace
from tagger.inference.job import open_job
from tagger.settings.load import load_settings
from tagger.tagging.decisions import set_sizes
from tagger.training.calibration import Uncalibrated, fit_calibration
from tagger.training.split import halve
from tagger.training.temperature import softmax
from tagger.workflows.calibrate import Labelled, read_labelled_rows

MODEL = Path(__file__).parents[2] / "sample_catalog" / "model"


def read(photos: Path, model: Path) -> Labelled:
    """Embed the photos, which lie in a folder for each label."""
    files = sorted(file for name in LABELS for file in (photos / name).glob("*.jpg"))
    attribute = {"name": "category", "labels": LABELS, "truth_column": "category"}
    with tempfile.TemporaryDirectory() as folder, Workspace() as space:
        manifest = f"{folder}/manifest.parquet"
        pq.write_table(
            pa.table({"image": [str(file) for file in files], "category": [file.parent.name for file in files]}), manifest
        )
        settings = load_settings(manifest, {"attribute": [attribute]}, model=model, image_root=photos, cache=False)
        [found] = read_labelled_rows(open_job(manifest, settings, space), Machine())
    return found


def split(found: Labelled, coverage: float, seed: int) -> tuple[float, float]:
    """Calibrate on a half; return the share of the other's sets that hold the right label, and the labels of a set."""
    fitting, judging = halve(len(found.truth), seed)
    [(name, source)] = found.sources.items()
    half = {name: Uncalibrated(source.logits[fitting], *source[1:])}
    attribute = found.attribute.model_copy(update={"prediction_sets": coverage})
    calibration = fit_calibration("photos", attribute, half, found.truth[fitting], found.rule, None, seed)
    sets = calibration.prediction_sets
    assert sets is not None
    probabilities = softmax(source.logits[judging] / np.float32(calibration.sources[name].temperature))
    order = np.argsort(-probabilities, axis=1, kind="stable")
    sizes = set_sizes(np.take_along_axis(probabilities, order, axis=1), sets.threshold or 0.0)
    place = (order == found.truth[judging, None]).argmax(1)
    return float((place < sizes).mean()), float(sizes.mean())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--photos", type=Path, default=DATA / "clothing" / "adapt", help="folders of JPEGs, named by label")
    parser.add_argument("--model", type=Path, default=MODEL)
    parser.add_argument("--coverages", type=float, nargs="+", default=[0.8, 0.9, 0.95])
    parser.add_argument("--splits", type=int, default=50)
    options = parser.parse_args()
    found = read(options.photos, options.model)
    print(f"{len(found.truth):,} photos, {options.splits} splits. {machine()}")
    table = []
    for coverage in options.coverages:
        held, sizes = np.transpose([split(found, coverage, seed) for seed in range(options.splits)])
        error = 2 * held.std(ddof=1) / math.sqrt(len(held))
        spread = f"{held.min():.1%} to {held.max():.1%}"
        table.append([coverage, f"{held.mean():.2%} ± {error:.2%}", spread, f"{sizes.mean():.2f}"])
    print_table(["prediction_sets", "right label held", "all splits", "labels in a set"], table)


if __name__ == "__main__":  # workers are separate processes
    main()
