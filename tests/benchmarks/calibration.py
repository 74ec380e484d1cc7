"""Measure how far calibrated confidences can be believed.

They are fitted on one half of Fashion-MNIST's test rows and evaluated on the other half, for many splits into halves.

python tests/benchmarks/calibration.py --fashion-mnist FOLDER --precisions 0.95 0.98
"""

from __future__ import annotations

import argparse
import io
import sys
import tempfile
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
from common import machine, print_table, spread
from PIL import Image

import tagger

CATALOG = Path(__file__).parents[2] / "sample_catalog"
sys.path.insert(0, str(CATALOG / "build"))
import fashion_mnist  # noqa: E402  # beside the scripts that made the sample catalogue


def write_manifest(source: Path, path: Path) -> None:
    """Write the test split's 10,000 pictures, embedded, with their classes."""
    images, classes = fashion_mnist.read(source, "t10k")
    pictures = []
    for image in images:
        buffer = io.BytesIO()
        Image.fromarray(image).save(buffer, "PNG")
        pictures.append(buffer.getvalue())
    pq.write_table(pa.table({"image": pictures, "category": [fashion_mnist.CLASSES[number] for number in classes]}), path)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--fashion-mnist", type=Path, required=True, help="folder with its four files")
    parser.add_argument("--precisions", type=float, nargs="+", default=[0.95, 0.98])
    parser.add_argument("--splits", type=int, default=20)
    options = parser.parse_args()
    print(f"{options.splits} splits. {machine('tagger')}")
    rows = []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_manifest(options.fashion_mnist, folder / "manifest.parquet")
        template = "a product photo of a {label}"
        attribute = {"name": "category", "labels": fashion_mnist.CLASSES, "truth_column": "category", "templates": [template]}
        config = {"attribute": [attribute], "cache": {"folder": str(folder / "cache")}}
        for precision in options.precisions:
            found = []
            for seed in range(options.splits):
                wish = {"target": tagger.Target(precision=precision), "seed": seed, "overwrite": True, "model": CATALOG / "model"}
                content = tagger.calibrate(folder / "manifest.parquet", folder / "calibration.json", config, **wish)
                found.append(content.attributes["category"])
            sources = [one.sources["clip"] for one in found]
            figures = [
                [source.before["ece"] for source in sources],
                [source.after["ece"] for source in sources],
                [source.temperature for source in sources],
                [one.review.precision for one in found],
                [1 - one.review.accepted / one.review.rows for one in found],
            ]
            rows.append([precision, *(spread(values, 4) for values in figures)])
    heads = ["ECE before", "ECE after", "temperature", "precision of the rows that chose it", "share to review"]
    print_table(["target precision", *heads], rows)


if __name__ == "__main__":  # workers are separate processes
    main()
