"""Measure what 10,000 labels cost beside encoding: deciding by prompts that are embedded, and fitting a head.

python tests/benchmarks/many_labels.py --model FOLDER

FOLDER gets a ViT-B/32 with random weights; embeddings are random, too. Half of the labels have no labelled row.
"""

from __future__ import annotations

import argparse
import resource
import time
from pathlib import Path

import numpy as np
from common import machine, print_table
from make_model import make
from model_alone import time_encoder
from numpy.typing import NDArray

from tagger.inference.predictor import Predictor
from tagger.inference.predictors import load_predictor
from tagger.settings.attributes import Attribute
from tagger.settings.options import Machine
from tagger.settings.schema import ModelSettings
from tagger.tagging.heads import ZeroShotHead, normalise
from tagger.training.choose_head import choose_head
from tagger.training.labelled_embeddings import LabelledEmbeddings

SECONDS = 10.0  # of encoding


def vectors(count: int, dimension: int, seed: int) -> NDArray[np.float32]:
    return normalise(np.random.default_rng(seed).standard_normal((count, dimension), np.float32))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=Path, required=True)
    parser.add_argument("--labels", type=int, default=10_000)
    parser.add_argument("--rows", type=int, default=10_000)
    options = parser.parse_args()
    settings = ModelSettings(name=str(make(options.model)))
    loaded = load_predictor(settings, Machine(workers=0), [Attribute(name="kind", labels=("hat", "bag"))]).predictor
    encoder, labels = loaded.encoder, options.labels
    each = time_encoder(loaded, SECONDS)

    began = time.perf_counter()
    prompts = vectors(labels, encoder.dimension, 0)
    head = ZeroShotHead([prompt[None] for prompt in prompts], 100.0)
    attribute = Attribute(name="kind", labels=tuple(f"label {number}" for number in range(labels)))
    predictor = Predictor(encoder, [attribute], [head])
    rows = vectors(options.rows, encoder.dimension, 1).astype(np.float16)
    made = time.perf_counter()
    predictor.decide(rows)
    decided = time.perf_counter()

    truth = np.random.default_rng(2).integers(labels // 2, size=2 * options.rows)
    truth[:2] = 0, 1
    noise = vectors(len(truth), encoder.dimension, 3)
    labelled = LabelledEmbeddings.from_engine(normalise(prompts[truth] + noise), truth, head)
    fitting = time.perf_counter()
    choice = choose_head(labelled)
    fitted = time.perf_counter()

    encoding = options.rows / each
    share = (decided - began) / encoding
    print(f"{labels:,} labels, {encoder.precision}. {machine()}")
    print_table(
        ("what", "seconds"),
        [
            (f"encoding {options.rows:,} images, {each:.1f} a second", f"{encoding:.1f}"),
            ("making the head of prompts", f"{made - began:.2f}"),
            (f"deciding about {options.rows:,} rows", f"{decided - made:.2f}"),
            ("both, beside encoding", f"{share:.1%}"),
            (f"choosing a head on {len(truth):,} labelled rows: {choice.method}", f"{fitted - fitting:.1f}"),
        ],
    )
    print(f"\nAt most {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6:.1f} GB.")


if __name__ == "__main__":
    main()
