"""Compare systems that were tested on the same draws: how good each is, and how certain that is."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from scipy.stats import bootstrap
from sklearn.metrics import confusion_matrix, f1_score

from tagger.core.frozen import Frozen

RESAMPLES = 9_999
WORSE = 0.01  # a hybrid that lies further than that below the accuracy of the better of its parts deserves a note


class Spread(Frozen):
    """One figure over the draws: mean, standard deviation of a sample, and the 95 % interval of the mean.

    The interval is by bootstrap over the draws (percentiles), so it tells about other draws of these pictures. For a single draw
    it and the standard deviation are null.
    """

    mean: float
    standard_deviation: float | None
    low: float | None
    high: float | None
    of_draws: tuple[float, ...]


class Score(Frozen):
    """The figures of one system that learned from this many shots.

    difference: its accuracy less the first system's, draw by draw; null for the first. confusion_matrix: rows are true labels,
    columns predicted ones, added up over the draws.
    """

    system: str
    shots: int
    accuracy: Spread
    macro_f1: Spread
    difference: Spread | None
    confusion_matrix: tuple[tuple[int, ...], ...]


class Comparison(Frozen):
    """The result of `tagger compare`.

    manifests: name -> SHA-256 of its content, the one to learn from first. test: rows of each label, null for all. notes: what a
    reader should know.
    """

    schema_version: Literal[1] = 1
    manifests: dict[str, str]
    attribute: str
    labels: tuple[str, ...]
    model: dict[str, str]
    recipe: dict[str, Any]
    test: int | None
    seeds: int
    scores: tuple[Score, ...]
    notes: tuple[str, ...]
    versions: dict[str, str]

    def to_text(self) -> str:
        """Return a Markdown table, and the notes below it."""
        head = ("system", "shots", "accuracy", "95 % interval", "sd", "macro F1", "difference to the first, 95 % interval")
        lines = [f"| {' | '.join(head)} |", "|---" * len(head) + "|"]
        for score in self.scores:
            accuracy, difference = score.accuracy, score.difference
            cells = [score.system, str(score.shots), f"{accuracy.mean:.1%}", _interval(accuracy)]
            cells += ["" if accuracy.standard_deviation is None else f"{accuracy.standard_deviation:.1%}"]
            cells += [f"{score.macro_f1.mean:.3f}"]
            cells += ["" if difference is None else f"{difference.mean:+.1%} {_interval(difference, '+')}".rstrip()]
            lines.append(f"| {' | '.join(cells)} |")
        return "\n".join([*lines, *(["", *self.notes] if self.notes else [])])


def spread(values: Sequence[float]) -> Spread:
    """Return mean, standard deviation and interval of a figure's values, one a draw."""
    drawn = np.asarray(values, np.float64)
    if len(drawn) < 2:
        return Spread(mean=float(drawn.mean()), standard_deviation=None, low=None, high=None, of_draws=tuple(drawn.tolist()))
    rng = np.random.default_rng(0)
    between = bootstrap((drawn,), np.mean, n_resamples=RESAMPLES, method="percentile", rng=rng).confidence_interval
    return Spread(
        mean=float(drawn.mean()),
        standard_deviation=float(drawn.std(ddof=1)),
        low=float(between.low),
        high=float(between.high),
        of_draws=tuple(drawn.tolist()),
    )


def score(
    truths: Sequence[NDArray[np.int64]], predictions: Mapping[str, Sequence[NDArray[np.int64]]], labels: int, shots: int
) -> list[Score]:
    """Return the figures of each system.

    truths: for each draw the true labels, int64 (M,). predictions: system -> for each draw its labels, int64 (M,). labels: how
    many there are.
    """
    numbers = list(range(labels))
    accuracies = {
        system: [float((truth == one).mean()) for truth, one in zip(truths, predicted, strict=True)]
        for system, predicted in predictions.items()
    }
    first = next(iter(accuracies.values()))
    scores: list[Score] = []
    for system, predicted in predictions.items():
        f1 = [
            float(f1_score(truth, one, labels=numbers, average="macro", zero_division=0))
            for truth, one in zip(truths, predicted, strict=True)
        ]
        differences = [own - other for own, other in zip(accuracies[system], first, strict=True)]
        matrix = confusion_matrix(np.concatenate(truths), np.concatenate(predicted), labels=numbers)
        scores.append(
            Score(
                system=system,
                shots=shots,
                accuracy=spread(accuracies[system]),
                macro_f1=spread(f1),
                difference=spread(differences) if scores else None,
                confusion_matrix=tuple(map(tuple, matrix.tolist())),
            )
        )
    return scores


def worse_hybrids(scores: Sequence[Score], hybrid: str) -> list[str]:
    """Return a note for each number of shots with which the hybrid is more than WORSE below the better of its parts."""
    lines = []
    for one in (score for score in scores if score.system == hybrid):
        others = [score for score in scores if score.shots == one.shots and score.system != hybrid]
        best = max(others, key=lambda score: score.accuracy.mean, default=one)
        if one.accuracy.mean < best.accuracy.mean - WORSE:
            lines.append(
                f"With {one.shots} shots the hybrid ({one.accuracy.mean:.1%}) is more than {100 * WORSE:g} point worse than "
                f"{best.system} alone ({best.accuracy.mean:.1%}): use that."
            )
    return lines


def _interval(spread: Spread, sign: str = "") -> str:
    return "" if spread.low is None else f"({spread.low:{sign}.1%} to {spread.high:{sign}.1%})"
