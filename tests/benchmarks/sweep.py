"""Time our job over image sizes, decoding processes and batch sizes, as whole processes without a cache.

python tests/benchmarks/sweep.py --sizes 400x533 1600x2132 --workers 1 2 --batch-sizes 8 32

The batch size is how many images one decoding process hands over at once. The encoder takes pieces of its own size, whatever
this is.
"""

from __future__ import annotations

import argparse
import itertools
import tempfile
from pathlib import Path

from common import add_arguments, describe, machine, make_catalogue, print_table, size, spread, tag
from make_model import make


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_arguments(parser, count=256)
    parser.add_argument("--sizes", type=size, nargs="+", default=[(400, 533), (800, 1066), (1600, 2132)])
    parser.add_argument("--workers", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--batch-sizes", type=int, nargs="+", default=[8, 32, 128])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--options", default="", help="more options of the command line, in one string")
    options = parser.parse_args()
    make(options.model)
    with tempfile.TemporaryDirectory() as name:
        manifests = {}
        for picture_size in options.sizes:
            folder = Path(name) / f"{picture_size[0]}x{picture_size[1]}"
            manifests[folder.name] = make_catalogue(folder, options.photos, options.count, picture_size)
            print(describe(manifests[folder.name]))
        print(f"{options.rounds} rounds; options: {options.options or 'none'}. {machine('tagger')}")
        points = list(itertools.product(manifests, options.workers, options.batch_sizes))
        found = []
        for _ in range(options.rounds):
            for picture_size, workers, batch in points:
                chosen = ("--no-cache", "--workers", workers, "--batch-size", batch, *options.options.split())
                found.append(tag(manifests[picture_size], options.model, *chosen))
    rows = []
    for number, point in enumerate(points):
        done = found[number :: len(points)]
        shares = [spread([100 * one["busy"][stage] for one in done], 0) for stage in ("decoder", "encoder")]
        rows.append([*point, spread(one["images_per_second"] for one in done), *shares])
    print_table(["size", "workers", "batch", "images per second (from, to)", "decoder busy, %", "encoder busy, %"], rows)


if __name__ == "__main__":
    main()
