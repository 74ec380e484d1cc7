"""Measure how often drift raises an alarm: on nights without a shift, and on nights with a planted one.

Each night's rows are drawn anew from one catalogue, as the night's before are: labels of uneven shares for two attributes,
confidences, errors, and the embeddings of as many coordinates as ViT-B/32 has, a mixture of one cluster a label on the unit
sphere. (Rows that are the same on both nights would make false alarms rarer still.) A shift moves ten points of the rows from
some labels to others, ten points of confidence, five points of errors, or the pictures of a tenth of the rows to a new cluster.

python tests/benchmarks/drift.py
"""

from __future__ import annotations

import argparse
import time
from collections import Counter
from collections.abc import Iterable, Iterator

import numpy as np
from common import machine, print_table
from numpy.typing import NDArray

from tagger.core.moments import Moments
from tagger.evaluation.distributions import BINS, Distributions
from tagger.evaluation.drift import compare_nights

DIMENSION = 512
LABELS = {"category": 10, "colour": 24}
NOISE = 0.6  # of an embedding around its label's centre, whose length is 1
ERRORS = 0.02
POINTS = 0.1  # that a shift moves
SHIFTS = ("none", "labels", "one label", "confidence", "errors", "pictures")
FIGURES = ("labels", "confidence", "errors", "embeddings")
CAUGHT = {"labels": "labels", "one label": "labels", "confidence": "confidence", "errors": "errors", "pictures": "embeddings"}


class Catalogue:
    """What nights are drawn from: each label's share and the centre of its embeddings."""

    def __init__(self, seed: int) -> None:
        rng = np.random.default_rng(seed)
        self.shares = {name: rng.dirichlet(np.full(labels, 2.0)) for name, labels in LABELS.items()}
        centres = rng.normal(size=(max(LABELS.values()) + 1, DIMENSION)) + rng.normal(size=DIMENSION)
        self.centres = (centres / np.linalg.norm(centres, axis=1, keepdims=True)).astype(np.float32)

    def shifted(self, shift: str, shares: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return the shares of labels of the shifted catalogue."""
        if shift == "labels":  # from every second label to the others, in proportion
            even = np.arange(len(shares)) % 2 == 0
            return np.where(even, shares * (1 - POINTS / shares[even].sum()), shares * (1 + POINTS / shares[~even].sum()))
        if shift == "one label":  # a new one takes its rows from all others
            rarest = np.arange(len(shares)) == shares.argmin()
            return np.where(rarest, shares + POINTS, shares * (1 - POINTS / (1 - shares.min())))
        return shares

    def night(self, rows: int, shift: str, rng: np.random.Generator) -> Distributions:
        """Draw a night; its counts are those that update() makes of a result."""
        found = Distributions({name: tuple(map(str, range(labels))) for name, labels in LABELS.items()})
        found.rows = rows
        found.errors = int(rng.binomial(rows, ERRORS + (POINTS / 2 if shift == "errors" else 0)))
        tagged = rows - found.errors
        for name, shares in self.shares.items():
            label = rng.choice(len(shares), tagged, p=self.shifted(shift, shares))
            confidence = rng.beta(4, 1, tagged) * (1 - POINTS if shift == "confidence" else 1)
            found.labels[name] = np.bincount(label, minlength=len(shares))
            found.confidences[name] = np.bincount((confidence * BINS).astype(np.int64), minlength=BINS)
            found.confidence_sums[name] = float(confidence.sum())
        if shift == "pictures":
            label[rng.random(tagged) < POINTS] = -1
        found.embeddings = moments(self.centres, label, rng)
        return found


def moments(centres: NDArray[np.float32], label: NDArray[np.int64], rng: np.random.Generator) -> Moments:
    """Add up embeddings on the unit sphere around their labels' centres, in pieces."""
    found = []
    for start in range(0, len(label), 4096):
        piece = centres[label[start : start + 4096]]
        piece = piece + rng.standard_normal(piece.shape, np.float32) * np.float32(NOISE / DIMENSION**0.5)
        found.append(Moments.of(piece / np.linalg.norm(piece, axis=1, keepdims=True)))
    return sum(found[1:], start=found[0])


def alarms(nights: int, rows: int, before: int, shift: str) -> Iterator[set[str]]:
    """Yield the figures of each night's alarms."""
    for number in range(nights):
        catalogue, rng = Catalogue(number), np.random.default_rng([number, rows, before, SHIFTS.index(shift)])
        drift = compare_nights(catalogue.night(before, "none", rng), catalogue.night(rows, shift, rng))
        yield {one.figure for one in drift.shifts if one.alarm}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--nights", type=int, default=500, help="without a shift, of each size")
    parser.add_argument("--shifted", type=int, default=100, help="with each shift, of each size")
    parser.add_argument("--rows", type=int, nargs="+", default=[50, 200, 1_000, 5_000])
    parser.add_argument("--shifted-rows", type=int, nargs="+", default=[200, 1_000, 5_000])
    options = parser.parse_args()
    print(f"{options.nights} nights without a shift and {options.shifted} with each, a row. {machine('scipy')}")
    began, quiet, shifted = time.perf_counter(), [], []
    sizes = [*((rows, rows) for rows in options.rows), (min(options.rows), max(options.rows))]
    for rows, before in sizes:
        found = list(alarms(options.nights, rows, before, "none"))
        of = Counter(figure for night in found for figure in night)
        quiet.append([f"{before:,}", f"{rows:,}", share(map(bool, found)), *(of[figure] for figure in FIGURES)])
    print_table(["rows before", "rows", "nights with an alarm", *(f"of {one}" for one in FIGURES)], quiet)
    for rows in options.shifted_rows:
        caught = (share(CAUGHT[one] in night for night in alarms(options.shifted, rows, rows, one)) for one in SHIFTS[1:])
        shifted.append([f"{rows:,}", *caught])
    print_table(["rows", *(f"caught: {one}" for one in SHIFTS[1:])], shifted)
    print(f"\n{time.perf_counter() - began:.0f} s.")


def share(outcomes: Iterable[bool]) -> str:
    found = list(outcomes)
    return f"{sum(found) / len(found):.1%}"


if __name__ == "__main__":
    main()
