"""Measure what a fallback costs: tag one manifest by CLIP alone, by the checkpoint alone, and by both at several thresholds.

python tests/benchmarks/fallback.py labelled.parquet --checkpoint resnet18.safetensors --below 0.5 0.7 0.9

They run in turn for several rounds, without the cache. Seconds run from the first read to the result, without the loading of
models.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
from common import machine, print_table, spread

import tagger

MODEL = Path(__file__).parents[2] / "sample_catalog" / "model"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("manifest", type=Path)
    parser.add_argument("--checkpoint", type=Path, required=True)
    parser.add_argument("--model", type=Path, default=MODEL, help="CLIP; default: the sample catalogue's")
    parser.add_argument("--below", type=float, nargs="+", default=[0.5, 0.7, 0.9])
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    systems: dict[str, tuple[Path, dict[str, Any]]] = {
        "CLIP alone": (options.model, {}),
        "checkpoint alone": (options.checkpoint, {}),
    }
    for below in options.below:
        fallback = {"fallback": {"checkpoint": str(options.checkpoint.resolve()), "below": below}}
        systems[f"both, below {below:g}"] = (options.model, fallback)
    found: dict[str, list[tagger.RunSummary]] = {name: [] for name in systems}
    decided: dict[str, float] = {}
    with tempfile.TemporaryDirectory() as folder:
        for _ in range(options.rounds):
            for name, (model, config) in systems.items():
                output = tagger.Output(path=Path(folder) / "tagged.parquet", overwrite=True)
                summary = tagger.run(options.manifest, config, output=output, model=model, precision="fp32", cache=False)
                found[name].append(summary)
                decided[name] = _decided(Path(folder) / "tagged.parquet")
    print(machine("tagger"))
    seconds = {name: [summary.stage_seconds["total"] for summary in summaries] for name, summaries in found.items()}
    both = statistics.median(seconds["checkpoint alone"])
    rows = []
    for name, summaries in found.items():
        last = summaries[-1]
        more = [own - alone for own, alone in zip(seconds[name], seconds["CLIP alone"], strict=True)]
        shown = last.fallback_images / last.rows
        if not last.tagged + last.review:
            sys.exit(f"{options.manifest}: expected rows that can be tagged, found {dict(last.errors)}; see its image paths")
        accuracy = next(iter(last.evaluation.attributes.values())).accuracy if last.evaluation else None
        cost = spread([extra / both for extra in more], 3) if shown else ""
        shares = [f"{shown:.1%}", f"{decided[name]:.1%}"]
        rows.append([name, spread(seconds[name]), *shares, cost, "" if accuracy is None else f"{accuracy:.1%}"])
    extra_cost = "more than CLIP alone, as a share of the checkpoint alone"
    heads = ["seconds", "rows shown to the checkpoint", "rows it decides", extra_cost, "accuracy"]
    print_table(["system", *heads], rows)


def _decided(result: Path) -> float:
    """Return the share of rows that the checkpoint decided."""
    [column] = [name for name in pq.read_schema(result).names if name.endswith("_source")]
    sources = pq.read_table(result, columns=[column])[column].to_pylist()
    return sources.count("resnet18") / len(sources)


if __name__ == "__main__":  # workers are separate processes
    main()
