"""Compare our job with what other people would run over the same JPEGs: in turn, for several rounds, with medians and ratios.

python tests/benchmarks/peers.py --photos FOLDER --ours torch:auto openvino:auto openvino:int8

The peers are transformers' zero-shot-image-classification pipeline and an open_clip loop behind a torch DataLoader, each in
fp32 and in bf16, fastembed's ImageEmbedding over ONNX Runtime and clip-retrieval's inference, in virtual environments that are
made when first needed. Images per second run from the first read to the last result, without the loading of the model; the
seconds of the whole process include it. "Model alone" is the encoder of the same run over random pixels, timed in the same
round. All models are ViT-B/32 with random weights.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path
from typing import Any

from common import LABELS, add_arguments, describe, machine, make_catalogue, model_alone, print_table, size, spread, tag
from make_model import make
from peer_environment import DEFAULT, PEERS, run_peer

Rounds = dict[str, list[dict[str, Any]]]


def job_options(job: str) -> list[str]:
    """Turn a job such as torch:bf16 into options of the command line."""
    backend, precision = job.split(":")
    return ["--precision", precision, *(["--backend", backend] if backend != "torch" else [])]


def run_round(rounds: Rounds, manifest: Path, options: argparse.Namespace) -> None:
    """Run everything once; a peer that has failed is not tried again."""
    for job in options.ours:
        rounds.setdefault(job, []).append(tag(manifest, options.model, "--no-cache", *job_options(job)))
        alone = model_alone(manifest, options.model, *job_options(job))
        rounds.setdefault(f"{job} model alone", []).append({"images_per_second": alone})
    for peer in options.peers:
        done = rounds.setdefault(peer, [])
        if not (done and "failure" in done[-1]):
            known = ["--labels", ",".join(LABELS), "--model", options.model]
            done.append(run_peer(peer, options.peers_environment, manifest.parent / "images", *known))


def rates(rounds: Rounds, name: str) -> list[float]:
    return [done["images_per_second"] for done in rounds[name]]


def show(rounds: Rounds, options: argparse.Namespace) -> None:
    """Print two tables: the figures of each, and our job divided by each of the others."""
    rows = []
    for name, done in rounds.items():
        if failure := done[-1].get("failure"):
            rows.append([name, failure, "", ""])
            continue
        seconds = [one["process_seconds"] for one in done if "process_seconds" in one]
        versions = ", ".join(f"{package} {number}" for package, number in done[-1].get("versions", {}).items())
        rows.append([name, spread(rates(rounds, name)), spread(seconds) if seconds else "", versions])
    print_table(["median (from, to)", "images per second", "whole process, s", "versions"], rows)
    others = [peer for peer in options.peers if "failure" not in rounds[peer][-1]]
    rows = []
    for job in options.ours:
        against = [rates(rounds, other) for other in (*others, f"{job} model alone")]
        pairs = [[ours / theirs for ours, theirs in zip(rates(rounds, job), rate, strict=True)] for rate in against]
        rows.append([job, *(spread(ratios, 2) for ratios in pairs)])
    print_table(["our job divided by", *others, "its model alone"], rows)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_arguments(parser, count=511)
    parser.add_argument("--size", type=size, default=(400, 533))
    parser.add_argument("--ours", nargs="+", default=["torch:auto"], help="back-end:precision")
    parser.add_argument("--peers", nargs="*", default=list(PEERS), choices=list(PEERS))
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--peers-environment", type=Path, default=DEFAULT, help="folder of their virtual environments")
    options = parser.parse_args()
    make(options.model)
    with tempfile.TemporaryDirectory() as name:
        manifest = make_catalogue(Path(name) / "catalogue", options.photos, options.count, options.size)
        print(f"{describe(manifest)}; {options.rounds} rounds. {machine('tagger', 'pillow')}")
        rounds: Rounds = {}
        for _ in range(options.rounds):
            run_round(rounds, manifest, options)
        show(rounds, options)


if __name__ == "__main__":
    main()
