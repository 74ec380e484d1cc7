"""Measure how well images that fit no label are found: labels that some rows have, over manifests whose rows have others, too.

`tagger calibrate` fits on one manifest, `tagger run` judges the other; without a calibration the prompts alone tell.

python tests/benchmarks/unknown.py adapt.parquet validation.parquet --image-root photos --truth label
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from common import machine, print_table
from sklearn.metrics import roc_curve

import tagger
from tagger import Machine, Output

MODEL = Path(__file__).parents[2] / "sample_catalog" / "model"


def run(manifest: str, attribute: dict[str, Any], options: argparse.Namespace, folder: str) -> list[str]:
    """Tag the manifest; return AUROC, FPR at 95 % recall, and the known lost where half is found and at the threshold."""
    summary = tagger.run(
        manifest,
        {"attribute": [attribute]},
        output=Output(path=f"{folder}/tagged.parquet", overwrite=True, report=False),
        machine=Machine(),
        **overrides(options, folder),
    )
    assert summary.evaluation is not None
    found = summary.evaluation.attributes["category"].unknown
    assert found is not None
    score = "category_known" if attribute.get("unknown") else "category_confidence"
    table = pq.read_table(f"{folder}/tagged.parquet", columns=[options.truth, score])
    table = table.filter(pc.is_valid(table[score]))
    known = pc.is_in(table[options.truth], pa.array(options.labels)).to_numpy()
    false, recalled, _ = roc_curve(known, table[score].to_numpy(), drop_intermediate=False)
    lost = 1 - recalled[false <= 0.5].max()
    rule = "" if found.found is None else f"{found.found:.1%} found, {found.known_to_review:.1%} of the known lost"
    return [f"{found.auroc:.3f}", f"{found.fpr_at_95_recall:.1%}", f"{lost:.1%}", rule]


def overrides(options: argparse.Namespace, folder: str) -> dict[str, Any]:
    return {"model": str(options.model), "image_root": options.image_root, "cache": f"{folder}/cache"}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("labelled", help="manifest to calibrate on")
    parser.add_argument("judged", help="manifest to judge")
    parser.add_argument("--image-root", required=True)
    parser.add_argument("--truth", default="category", help="truth column")
    parser.add_argument("--labels", nargs="+", default=["shirt", "dress", "shoes"])
    parser.add_argument("--model", type=Path, default=MODEL)
    options = parser.parse_args()
    plain = {"name": "category", "labels": options.labels, "truth_column": options.truth}
    unknown = {**plain, "unknown": True}
    values = pq.read_table(options.labelled, columns=[options.truth])[options.truth].unique().drop_null().to_pylist()
    strangers = sorted(set(values) - set(options.labels))
    table = []
    with tempfile.TemporaryDirectory() as folder:
        calibration = f"{folder}/calibration.json"
        tagger.calibrate(options.labelled, calibration, {"attribute": [unknown]}, **overrides(options, folder))
        for name, attribute in (
            ("confidence (no `unknown`)", plain),
            ("`unknown = true`", unknown),
            ('`negative_labels = "mined"`', {**unknown, "negative_labels": "mined"}),
            ("`negative_labels`: what the strangers are", {**unknown, "negative_labels": strangers}),
            ("calibrated on labelled strangers", {**unknown, "calibration": calibration}),
        ):
            table.append([name, *run(options.judged, attribute, options, folder)])
    print(machine())
    print_table(["score", "AUROC", "FPR at 95 % recall", "known lost where half is found", "at the threshold"], table)


if __name__ == "__main__":  # workers are separate processes
    main()
