"""Time a run up to its first batch, beside importing torch and loading the weights alone.

python tests/benchmarks/start.py --rounds 5

Two processes run in turn, each until it could encode. One imports torch and transformers and loads the checkpoint; the other is
`tagger run` with an empty cache, until the encoder is given its first images.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from common import LABELS, add_arguments, describe, machine, make_catalogue, print_table, spread
from make_model import make

ALONE = """
import sys, torch
from transformers import CLIPModel
CLIPModel.from_pretrained(sys.argv[1], dtype=torch.float32)
"""
# The run itself imports what is replaced here, when it wants to.
RUN = """
import builtins, os, sys
plain = builtins.__import__
def watched(*arguments, **named):
    module = plain(*arguments, **named)
    predictor = sys.modules.get("tagger.inference.predictor")
    if predictor is not None and hasattr(predictor, "Predictor"):
        predictor.Predictor.encode = lambda *_: os._exit(0)
    return module
builtins.__import__ = watched
from tagger.cli.main import main
main()
"""


def seconds(program: str, *arguments: object) -> float:
    began = time.perf_counter()
    subprocess.run([sys.executable, "-c", program, *map(str, arguments)], check=True, capture_output=True)
    return time.perf_counter() - began


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_arguments(parser, count=64)
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    make(options.model)
    with tempfile.TemporaryDirectory() as name:
        manifest = make_catalogue(Path(name) / "catalogue", options.photos, options.count, (400, 533))
        run = ["run", manifest, "--no-cache", "--quiet", "--overwrite", "--model", options.model, "--labels", ",".join(LABELS)]
        seconds(ALONE, options.model)  # so that the files are in memory
        pairs = [(seconds(ALONE, options.model), seconds(RUN, *run)) for _ in range(options.rounds)]
        print(f"{describe(manifest)}; {options.rounds} rounds. {machine('tagger')}")
    alone, ours = zip(*pairs, strict=True)
    rows = [["importing and loading alone", spread(alone, 2)], ["to the first batch of a run", spread(ours, 2)]]
    print_table(["", "seconds (from, to)"], [*rows, ["difference", spread((b - a for a, b in pairs), 2)]])


if __name__ == "__main__":
    main()
