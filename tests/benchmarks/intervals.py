"""Measure how often the 95 % intervals of accuracy and macro F1 contain the truth.

Catalogues are simulated whose confusion matrix is known: labels of uneven shares, each with an accuracy and confusions of its
own. Each run draws a catalogue and from it the labelled rows, and computes the intervals as an evaluation does; the truth is
the catalogue's. Accuracy is a given one, or in the last row of each size anything from 0.7 to 0.99. Beside them stands what
the percentiles of a bootstrap would cover.

python tests/benchmarks/intervals.py
"""

from __future__ import annotations

import argparse
import time

import numpy as np
from common import machine, print_table
from numpy.typing import NDArray
from sklearn.metrics import f1_score

from tagger.evaluation.intervals import RESAMPLES, _label_sums, _macro_f1, macro_f1_interval, share_interval

LEAST_SHARE = 0.02  # of a label before all are scaled to 1


def make_catalogue(labels: int, accuracy: float, rng: np.random.Generator) -> NDArray[np.float64]:
    """Return float64 (K, K): the shares of rows with truth i that are tagged j."""
    shares = np.maximum(rng.dirichlet(np.full(labels, 3.0)), LEAST_SHARE)
    shares /= shares.sum()
    wrong = rng.gamma(2, 0.5, labels)
    wrong = np.minimum(wrong * (1 - accuracy) / (shares @ wrong), 0.8)
    matrix = np.diag(1 - wrong)
    for label in range(labels):
        matrix[label, np.arange(labels) != label] = wrong[label] * rng.dirichlet(np.ones(labels - 1))
    catalogue: NDArray[np.float64] = matrix * shares[:, None]
    return catalogue


def covers(labels: int, rows: int, accuracy: float, rng: np.random.Generator) -> list[bool]:
    """Draw once; return whether the interval of accuracy, that of macro F1 and the percentiles of both contain the truth."""
    catalogue = make_catalogue(labels, accuracy, rng)
    everything = np.nonzero(catalogue)
    accuracy = float(np.trace(catalogue))
    macro_f1 = f1_score(*everything, sample_weight=catalogue[everything], average="macro")
    matrix = rng.multinomial(rows, catalogue.ravel()).reshape(labels, labels)
    correct, cells = int(np.trace(matrix)), np.nonzero(matrix)
    drawn = _macro_f1(rng.multinomial(rows, matrix[cells] / rows, RESAMPLES), *_label_sums(*cells, labels))
    intervals = [
        (share_interval(correct, rows), accuracy),
        (macro_f1_interval(matrix), macro_f1),
        (np.percentile(rng.binomial(rows, correct / rows, RESAMPLES) / rows, (2.5, 97.5)), accuracy),
        (np.percentile(drawn, (2.5, 97.5)), macro_f1),
    ]
    return [bool(interval[0] <= truth <= interval[1]) for interval, truth in intervals if interval is not None]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=500)
    parser.add_argument("--labels", type=int, nargs="+", default=[5, 12])
    parser.add_argument("--rows", type=int, nargs="+", default=[100, 300, 1_000, 5_000])
    parser.add_argument("--accuracies", type=float, nargs="+", default=[0.7, 0.8, 0.9, 0.97, 0.99])
    options = parser.parse_args()
    print(f"{options.runs} runs a row. {machine('scipy')}")
    began, table = time.perf_counter(), []
    for labels in options.labels:
        for rows in options.rows:
            for accuracy in [*options.accuracies, None]:
                rng = np.random.default_rng([labels, rows, round(1000 * (accuracy or 0))])
                runs = [covers(labels, rows, accuracy or rng.uniform(0.7, 0.99), rng) for _ in range(options.runs)]
                shares = (f"{share:.1%}" for share in np.mean(runs, axis=0))
                table.append([labels, f"{rows:,}", accuracy or "0.7 to 0.99", *shares])
    heads = ["labels", "rows", "accuracy", "accuracy: Wilson", "macro F1: BCa", "accuracy: percentiles", "macro F1: percentiles"]
    print_table(heads, table)
    print(f"\n{time.perf_counter() - began:.0f} s.")


if __name__ == "__main__":
    main()
