"""Measure what speed costs in accuracy: our job in each precision beside transformers' own processor and model in fp32.

python tests/benchmarks/accuracy.py --jobs torch:fp32 torch:bf16 openvino:bf16 openvino:int8

The sample model tags photos and the sample catalogue's pictures. The table has the rows that get another label, those among
them whose two labels are further apart than 0.02 for the reference, and by how much the confidence differs.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import torch
from common import DATA, LABELS, machine, print_table
from make_model import SAMPLE
from peers import job_options
from PIL import Image
from transformers import CLIPModel, CLIPProcessor

from tagger.cli.main import cli

PICTURES = SAMPLE.parent / "images"
BAD = {"0082.png", "0377.png"}  # the sample catalogue's own
TIE = 0.02


def reference(paths: Sequence[Path], labels: Sequence[str]) -> torch.Tensor:
    """Return the probabilities (N, K) that transformers alone gives."""
    clip, processor = CLIPModel.from_pretrained(SAMPLE, dtype=torch.float32).eval(), CLIPProcessor.from_pretrained(SAMPLE)
    prompts = [f"A photo of a {label}." for label in labels]

    def batches() -> Iterator[torch.Tensor]:
        for start in range(0, len(paths), 32):
            images = [Image.open(path).convert("RGB") for path in paths[start : start + 32]]
            yield clip(**processor(text=prompts, images=images, return_tensors="pt", padding=True)).logits_per_image.softmax(1)

    with torch.inference_mode():
        return torch.cat(list(batches()))


def ours(folder: Path, labels: Sequence[str], options: Sequence[str]) -> pa.Table:
    output = folder / "tagged.parquet"
    arguments = ["run", str(folder / "manifest.parquet"), "--output", str(output), "--overwrite", "--quiet", "--no-cache"]
    arguments += ["--image-root", "/", "--model", str(SAMPLE), "--labels", ",".join(labels), *options]
    cli(arguments, standalone_mode=False)
    return pq.read_table(output)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--photos", type=Path, nargs="+", default=[DATA / "clothing" / part for part in ("validation", "adapt")])
    parser.add_argument("--labels", type=lambda text: text.split(","), default=list(LABELS))
    parser.add_argument("--jobs", nargs="+", default=["torch:fp32", "torch:bf16", "openvino:bf16", "openvino:int8"])
    options = parser.parse_args()
    paths = [path.resolve() for folder in options.photos for path in sorted(folder.rglob("*.jpg"))]
    paths += [path.resolve() for path in sorted(PICTURES.iterdir()) if path.name not in BAD]
    wanted = reference(paths, options.labels)
    labels, (confidence, _) = [options.labels[index] for index in wanted.argmax(1)], wanted.max(1)
    rows = []
    with tempfile.TemporaryDirectory() as name:
        pq.write_table(pa.table({"image_path": list(map(str, paths))}), Path(name) / "manifest.parquet")
        for job in options.jobs:
            table = ours(Path(name), options.labels, job_options(job))
            found = table["category_label"].to_pylist()
            other = [row for row, (a, b) in enumerate(zip(found, labels, strict=True)) if a != b]
            far = [row for row in other if confidence[row] - wanted[row, options.labels.index(found[row])] > TIE]
            difference = (torch.tensor(table["category_confidence"].to_pylist()) - confidence).abs()
            near = float((difference <= TIE).float().mean())
            same = 1 - len(other) / len(paths)
            rows.append([job, len(other), f"{same:.2%}", len(far), f"{near:.2%}", f"{difference.max():.3f}"])
    print(f"{len(paths):,} images, {len(options.labels)} labels. {machine('tagger')}")
    heads = ["job", "other labels", "same label", "of them no ties", f"confidence within {TIE}", "largest difference"]
    print_table(heads, rows)


if __name__ == "__main__":
    main()
