"""Time the encoder of a run alone, over random pixels. Prints images per second as JSON, for the benchmarks that start it.

python tests/benchmarks/model_alone.py manifest.parquet --model FOLDER --labels shirt,dress

A short run without a cache makes the encoder, so that it is the same as in a run with these options. It is then timed in the
same pieces, with pixels that are on its device already.
"""

from __future__ import annotations

import json
import sys
import tempfile
import time

import torch

from tagger.cli.main import cli
from tagger.inference.predictor import Predictor

SECONDS = 10.0
WARM_UP = 3  # pieces


def find_predictor(arguments: list[str], results: str) -> Predictor:
    """Return the predictor of a run with these arguments."""
    found: list[Predictor] = []
    encode = Predictor.encode

    def watched(self: Predictor, pixels: torch.Tensor) -> object:
        found.append(self)
        return encode(self, pixels)

    Predictor.encode = watched  # type: ignore[assignment,method-assign]
    options = ["--no-cache", "--limit", "64", "--quiet", "--overwrite", "--output", f"{results}/tagged.parquet"]
    cli(["run", *arguments, *options], standalone_mode=False)
    Predictor.encode = encode  # type: ignore[method-assign]
    return found[-1]


def time_encoder(predictor: Predictor, seconds: float) -> float:
    """Return images per second; a piece is begun before the previous one is waited for, as in a run."""
    size = (predictor.at_once, 3, *predictor.encoder.preprocessing.size)
    pixels = torch.randint(0, 256, size, dtype=torch.uint8).to(predictor.encoder.device)
    for _ in range(WARM_UP):
        predictor.encode(pixels)()
    began, pieces = time.perf_counter(), 0
    ahead = predictor.encode(pixels)
    while time.perf_counter() - began < seconds:
        following = predictor.encode(pixels)
        ahead()
        ahead, pieces = following, pieces + 1
    ahead()
    return (pieces + 1) * predictor.at_once / (time.perf_counter() - began)


def main() -> None:
    with tempfile.TemporaryDirectory() as results:
        predictor = find_predictor(sys.argv[1:], results)
    print(json.dumps({"images_per_second": time_encoder(predictor, SECONDS), "at_once": predictor.at_once}))


if __name__ == "__main__":
    main()
