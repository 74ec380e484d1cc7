"""Compare systems that were tested on the same draws: how good each is, and how certain that is."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from tagger.core.frozen import Frozen
from tagger.settings.options import HEAD, HYBRID, RESNET18, ZERO_SHOT

RESAMPLES = 9_999
WORSE = 0.01  # a hybrid that lies further than that below the accuracy of the better of its parts deserves a note


class Answer(NamedTuple):
    """What a system says of the test rows of a draw.

    probabilities: float32 (M, K). seconds: that it took to learn and to say so. method: that fitted the head, if it is one.
    """

    probabilities: NDArray[np.float32]
    seconds: float
    method: str | None = None


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
    columns predicted ones, added up over the draws. seconds: to learn from a draw's shots and to label its test rows, the mean
    over the draws, when all images are read and CLIP has embedded them. methods: that fitted the heads, and in how many draws.
    """

    system: str
    shots: int
    accuracy: Spread
    macro_f1: Spread
    difference: Spread | None
    confusion_matrix: tuple[tuple[int, ...], ...]
    seconds: float
    methods: dict[str, int]


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
        head = (
            "system",
            "shots",
            "accuracy",
            "95 % interval",
            "sd",
            "macro F1",
            "difference to the first, 95 % interval",
            "seconds",
        )
        lines = [f"| {' | '.join(head)} |", "|---" * len(head) + "|"]
        for score in self.scores:
            accuracy, difference = score.accuracy, score.difference
            cells = [score.system, str(score.shots), f"{accuracy.mean:.1%}", _interval(accuracy)]
            cells += ["" if accuracy.standard_deviation is None else f"{accuracy.standard_deviation:.1%}"]
            cells += [f"{score.macro_f1.mean:.3f}"]
            cells += ["" if difference is None else f"{difference.mean:+.1%} {_interval(difference, '+')}".rstrip()]
            cells += [f"{score.seconds:.2g}"]
            lines.append(f"| {' | '.join(cells)} |")
        return "\n".join([*lines, *(["", *self.notes] if self.notes else [])])


def spread(values: Sequence[float]) -> Spread:
    """Return mean, standard deviation and interval of a figure's values, one a draw."""
    drawn = np.asarray(values, np.float64)
    if len(drawn) < 2:
        return Spread(mean=float(drawn.mean()), standard_deviation=None, low=None, high=None, of_draws=tuple(drawn.tolist()))
    from scipy.stats import bootstrap  # a report draws spreads, and computes none

    rng = np.random.default_rng(0)
    between = bootstrap((drawn,), np.mean, n_resamples=RESAMPLES, method="percentile", rng=rng).confidence_interval
    return Spread(
        mean=float(drawn.mean()),
        standard_deviation=float(drawn.std(ddof=1)),
        low=float(between.low),
        high=float(between.high),
        of_draws=tuple(drawn.tolist()),
    )


def score(truths: Sequence[NDArray[np.int64]], answers: Mapping[str, Sequence[Answer]], labels: int, shots: int) -> list[Score]:
    """Return the figures of each system.

    truths: for each draw the true labels, int64 (M,). answers: system -> for each draw its answer. labels: how many there are.
    """
    from sklearn.metrics import confusion_matrix, f1_score  # as in `spread`

    numbers = list(range(labels))
    scores: list[Score] = []
    first: list[float] | None = None
    for system, of_draws in answers.items():
        predicted = [answer.probabilities.argmax(1) for answer in of_draws]
        pairs = list(zip(truths, predicted, strict=True))
        accuracies = [float((truth == one).mean()) for truth, one in pairs]
        f1 = [float(f1_score(truth, one, labels=numbers, average="macro", zero_division=0)) for truth, one in pairs]
        differences = None if first is None else [own - other for own, other in zip(accuracies, first, strict=True)]
        first = first or accuracies
        matrix = confusion_matrix(np.concatenate(truths), np.concatenate(predicted), labels=numbers)
        scores.append(
            Score(
                system=system,
                shots=shots,
                accuracy=spread(accuracies),
                macro_f1=spread(f1),
                difference=None if differences is None else spread(differences),
                confusion_matrix=tuple(map(tuple, matrix.tolist())),
                seconds=float(np.mean([answer.seconds for answer in of_draws])),
                methods=dict(Counter(answer.method for answer in of_draws if answer.method is not None).most_common()),
            )
        )
    return scores


def notes(scores: Sequence[Score]) -> Iterator[str]:
    """Yield what a reader should know, for one number of shots after the other."""
    for shots in dict.fromkeys(score.shots for score in scores):
        of_shots = {score.system: score for score in scores if score.shots == shots}
        some = f"With {shots} shot{'s' if shots > 1 else ''}"
        parts = [of_shots[part] for part in (ZERO_SHOT, RESNET18) if part in of_shots]
        if HYBRID in of_shots and parts:
            best, own = max(parts, key=lambda part: part.accuracy.mean), of_shots[HYBRID].accuracy.mean
            if own < best.accuracy.mean - WORSE:
                yield (
                    f"{some} the hybrid ({own:.1%}) is more than {100 * WORSE:g} point worse than {best.system} alone "
                    f"({best.accuracy.mean:.1%}): use that."
                )
        if HEAD in of_shots:
            methods = of_shots[HEAD].methods
            chosen = ", ".join(f"{method} in {count}" for method, count in methods.items())
            yield f"{some} the head was {chosen} of {sum(methods.values())} draws."
        worse = [system for system, score in of_shots.items() if _surely_negative(score.difference)]
        if worse and next(iter(of_shots)) == ZERO_SHOT:
            yield f"{some} the interval is wholly below zero-shot for {', '.join(worse)}."


def _surely_negative(difference: Spread | None) -> bool:
    return difference is not None and difference.high is not None and difference.high < 0


def _interval(spread: Spread, sign: str = "") -> str:
    return "" if spread.low is None else f"({spread.low:{sign}.1%} to {spread.high:{sign}.1%})"
