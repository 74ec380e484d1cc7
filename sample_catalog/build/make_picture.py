"""Draw the README's picture: some rows of the sample catalogue with the tags that `tagger run` has written.

tagger run sample_catalog/manifest.parquet --output tagged.parquet
python sample_catalog/build/make_picture.py tagged.parquet --output sample_catalog/tagged.png

Needs matplotlib (`pip install '.[compare]'`).
"""

from __future__ import annotations

import argparse
import textwrap
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("agg")
import matplotlib.pyplot as plt
import pyarrow.parquet as pq
from matplotlib.axes import Axes
from PIL import Image

IMAGES = Path(__file__).parents[1] / "images"
# Ordinary rows, one confident mistake (120), two to review, two whose image cannot be read.
ROWS = (0, 1, 2, 3, 9, 29, 6, 120, 192, 463, 194, 377)
COLUMNS = 6
COLOURS = {"tagged": "#2e7d32", "review": "#e08600", "error": "#c62828"}
GREY = "#e9ecef"


def draw(axes: Axes, row: dict[str, Any]) -> None:
    """Draw one row: its image if there is one, then label, confidence as a bar, status and ground truth."""
    colour = COLOURS[row["tag_status"]]
    axes.set(xlim=(0, 1), ylim=(-0.62, 1), aspect="equal")
    axes.axis("off")
    if row["tag_status"] == "error":
        axes.fill_between([0, 1], 0, 1, color=GREY, linewidth=0)
        code, _, message = row["tag_reason"].partition(": ")
        reason = "\n".join([f"{code}:", *textwrap.wrap(message, 16)])
        axes.text(0.5, 0.5, reason, ha="center", va="center", color=colour, fontsize=8)
        axes.text(0, -0.13, "no label", va="center", color=colour, fontsize=10)
    else:
        with Image.open(IMAGES / row["image_path"]) as image:
            axes.imshow(image, cmap="gray", extent=(0, 1, 0, 1), interpolation="nearest")
        axes.text(0, -0.13, row["category_label"], va="center", fontsize=10, weight="bold")
        axes.text(1, -0.13, f"{row['category_confidence']:.2f}", va="center", ha="right", fontsize=10)
        axes.fill_between([0, 1], -0.30, -0.25, color=GREY, linewidth=0)
        axes.fill_between([0, row["category_confidence"]], -0.30, -0.25, color=colour, linewidth=0)
    axes.text(0, -0.42, row["tag_status"], va="center", color=colour, fontsize=9)
    truth = row["category"]
    if truth is not None:
        wrong = row["category_label"] not in (truth, None)
        axes.text(0, -0.57, f"truth: {truth}", va="center", fontsize=8, color=COLOURS["error"] if wrong else "#666666")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("results", type=Path, help="the tagged sample catalogue")
    parser.add_argument("--output", type=Path, required=True, help="PNG file")
    options = parser.parse_args()
    rows = pq.read_table(options.results).take(list(ROWS)).to_pylist()
    figure, places = plt.subplots(len(ROWS) // COLUMNS, COLUMNS, figsize=(8.2, 4.5))
    for axes, row in zip(places.flat, rows, strict=True):
        draw(axes, row)
    figure.subplots_adjust(0.012, 0.0, 0.988, 0.985, wspace=0.14, hspace=0.06)
    figure.savefig(options.output, dpi=100, metadata={"Software": None})


if __name__ == "__main__":
    main()
