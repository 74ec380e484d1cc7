"""Say what fine-tuning CLIP gains on labelled photos, beside a head on the same rows, and what it costs elsewhere.

python tests/benchmarks/finetuning.py --seeds 3

The sample model learns from the photos of `adapt` and is tested with those of `validation`, which chose nothing, and with the
labelled pictures of the sample catalogue, which are of another kind (Fashion-MNIST): has it forgotten those?
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
from common import DATA, LABELS, machine, print_table
from make_model import SAMPLE

import tagger
from tagger import ClipRecipe, DaptRecipe, HeadRecipe, Machine, Output
from tagger.core.errors import GateError


def write_manifest(path: Path, photos: Path) -> Path:
    files = sorted(path.resolve() for path in photos.rglob("*.jpg"))
    pq.write_table(pa.table({"image_path": list(map(str, files)), "category": [file.parent.name for file in files]}), path)
    return path


def accuracy(manifest: Path, root: Path, out: Path, model: Path, head: Path | None = None) -> float:
    """Return the accuracy of a run, in percent."""
    labels = sorted(set(pq.read_table(manifest)["category"].drop_null().to_pylist()))
    attribute = {"name": "category", "labels": labels, "truth_column": "category", **({"head": str(head)} if head else {})}
    settings = {"attribute": [attribute], "model": {"name": str(model)}, "manifest": {"image_root": str(root.resolve())}}
    summary = tagger.run(manifest, settings, output=Output(path=out, overwrite=True, report=False), cache=False)
    assert summary.evaluation is not None
    return 100 * float(summary.evaluation.attributes["category"].accuracy)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--photos", type=Path, default=DATA / "clothing", help="folder with adapt and validation")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--methods", nargs="*", default=["lora", "full"])
    parser.add_argument("--dapt", action="store_true", help="learn prompts of both towers, too")
    options = parser.parse_args()
    sample = SAMPLE.parent / "manifest.parquet"
    found: dict[str, list[tuple[float, float, float]]] = {}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        learn, test = (write_manifest(folder / f"{part}.parquet", options.photos / part) for part in ("adapt", "validation"))
        settings = {"labels": list(LABELS), "manifest": {"image_root": "/"}, "cache": {"folder": str(folder / "cache")}}

        def measure(system: str, model: Path, head: Path | None, seconds: float) -> None:
            of_sample = float("nan") if head else accuracy(sample, SAMPLE.parent / "images", folder / "sample.out.parquet", model)
            photos = accuracy(test, Path("/"), folder / "out.parquet", model, head)
            found.setdefault(system, []).append((photos, of_sample, seconds))
            print(system, found[system][-1], flush=True)

        measure("the model as it is", SAMPLE, None, 0.0)
        for seed in range(options.seeds):
            models = {"the model as it is": SAMPLE}
            for method in options.methods:
                began, place = time.perf_counter(), folder / f"{method}-{seed}"
                recipe = ClipRecipe(method=method, seed=seed, force=True)
                tuned = tagger.train_clip(learn, place, settings, recipe=recipe, machine=Machine(), model=SAMPLE)
                print(tuned.to_text(), flush=True)
                measure(f"train clip, {method}", place, None, time.perf_counter() - began)
                models[f"train clip, {method}"] = place
            if options.dapt:
                began, place = time.perf_counter(), folder / f"dapt-{seed}"
                prompts = tagger.train_dapt(learn, place, settings, recipe=DaptRecipe(seed=seed, force=True), model=SAMPLE)
                print(prompts.to_text(), flush=True)
                measure("train prompts-dapt", place, place / "head.safetensors", time.perf_counter() - began)
            for system, model in models.items():
                began = time.perf_counter()
                head: Path | None = folder / f"{model.name}-{seed}.safetensors"
                try:
                    tagger.train_head(learn, head, settings, recipe=HeadRecipe(seed=seed), model=model)
                except GateError:  # no head is surely better than the prompts, which decide then
                    head = None
                measure(f"{system}, and a head", model, head, time.perf_counter() - began)
    print(machine())
    heads = ["system", "photos of validation, %", "of the seeds", "sample catalogue, %", "seconds"]
    rows = []
    for system, measured in found.items():
        photos, samples, seconds = zip(*measured, strict=True)
        each = ", ".join(f"{one:.1f}" for one in photos)
        rows.append([system, *(f"{statistics.mean(one):.1f}" for one in (photos,)), each, f"{statistics.mean(samples):.1f}"])
        rows[-1].append(f"{statistics.median(seconds):.0f}")
    print_table(heads, rows)


if __name__ == "__main__":
    main()
