"""Systems that were tested on the same draws -> how good each is, and how sure that is."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from scipy.stats import bootstrap
from sklearn.metrics import confusion_matrix, f1_score

from tagger.core.frozen import Frozen

RESAMPLES = 9_999
WORSE = 0.01  # of accuracy, by which a hybrid may lie below the better of its parts before that is said


class Spread(Frozen):
    """Of one figure over the draws: mean, standard deviation (of a sample), and the 95 % interval of the mean by bootstrap over
    the draws (percentiles); the latter two are null for a single draw. It tells about other draws of these pictures."""

    mean: float
    standard_deviation: float | None
    low: float | None
    high: float | None
    of_draws: tuple[float, ...]


class Score(Frozen):
    """Of one system with so many shots. difference: its accuracy less the first system's, draw by draw; null for the first.
    confusion_matrix: rows are true labels, columns found ones, added up over the draws."""

    system: str
    shots: int
    accuracy: Spread
    macro_f1: Spread
    difference: Spread | None
    confusion_matrix: tuple[tuple[int, ...], ...]


class Comparison(Frozen):
    """test: rows of each label, null for all. manifests: name -> SHA-256 of its content, the one to learn from first. said: what
    a reader should know."""

    schema_version: Literal[1] = 1
    manifests: dict[str, str]
    attribute: str
    labels: tuple[str, ...]
    model: dict[str, str]
    recipe: dict[str, Any]
    test: int | None
    seeds: int
    scores: tuple[Score, ...]
    said: tuple[str, ...]
    versions: dict[str, str]

    def to_text(self) -> str:
        """A Markdown table, and what should be known."""
        head = ("system", "shots", "accuracy", "95 % interval", "sd", "macro F1", "difference to the first, 95 % interval")
        lines = [f"| {' | '.join(head)} |", "|---" * len(head) + "|"]
        for score in self.scores:
            accuracy, difference = score.accuracy, score.difference
            cells = [score.system, str(score.shots), f"{accuracy.mean:.1%}", _interval(accuracy)]
            cells += ["" if accuracy.standard_deviation is None else f"{accuracy.standard_deviation:.1%}"]
            cells += [f"{score.macro_f1.mean:.3f}"]
            cells += ["" if difference is None else f"{difference.mean:+.1%} {_interval(difference, '+')}".rstrip()]
            lines.append(f"| {' | '.join(cells)} |")
        return "\n".join([*lines, *(["", *self.said] if self.said else [])])


def spread(values: Sequence[float]) -> Spread:
    """Of one value a draw."""
    known = np.asarray(values, np.float64)
    if len(known) < 2:
        return Spread(mean=float(known.mean()), standard_deviation=None, low=None, high=None, of_draws=tuple(known.tolist()))
    chance = np.random.default_rng(0)
    between = bootstrap((known,), np.mean, n_resamples=RESAMPLES, method="percentile", rng=chance).confidence_interval
    return Spread(
        mean=float(known.mean()),
        standard_deviation=float(known.std(ddof=1)),
        low=float(between.low),
        high=float(between.high),
        of_draws=tuple(known.tolist()),
    )


def score(
    truths: Sequence[NDArray[np.int64]], found: Mapping[str, Sequence[NDArray[np.int64]]], labels: int, shots: int
) -> list[Score]:
    """For each system, its answers int64 (M,) draw by draw; `truths`: the right ones."""
    known = list(range(labels))
    accuracies = {
        system: [float((truth == given).mean()) for truth, given in zip(truths, answers, strict=True)]
        for system, answers in found.items()
    }
    first = next(iter(accuracies.values()))
    scores: list[Score] = []
    for system, answers in found.items():
        f1 = [
            float(f1_score(truth, given, labels=known, average="macro", zero_division=0))
            for truth, given in zip(truths, answers, strict=True)
        ]
        differences = [own - other for own, other in zip(accuracies[system], first, strict=True)]
        matrix = confusion_matrix(np.concatenate(truths), np.concatenate(answers), labels=known)
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
    """A line for each number of shots with which the hybrid is more than WORSE below the better of its parts."""
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
