"""Sets of prompts that tagged the same rows -> how good each is, what it confuses, and whether the best one is surely better."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray
from sklearn.metrics import confusion_matrix, f1_score

from tagger.core.frozen import Frozen
from tagger.core.tables import plain_table
from tagger.core.text import one_line, to_json
from tagger.evaluation.intervals import Interval, macro_f1_interval, share_interval
from tagger.evaluation.paired import Difference, paired_difference

SURE = 0.95  # share of resamples in which a set must be better than the prompts of the settings to take their place
PAIRS_SHOWN = 8


class Tried(NamedTuple):
    """A set of prompts: its templates, each label's prompts, whether it is a control, and for each draw its tags, int64 (N,)."""

    templates: tuple[str, ...]
    prompts: tuple[tuple[str, ...], ...]
    control: bool
    tags: Sequence[NDArray[np.int64]]


class PromptScore(Frozen):
    """What one set of prompts reaches on the held-out rows; of a set of several draws, all figures are the draws' means.

    templates: what the prompts were made of, none where each label has its own. prompts: by label, of the first draw. control: it
    cannot be chosen. choosing_accuracy: on the other half, by which the best set is chosen. difference: to the first set.
    """

    name: str
    templates: tuple[str, ...]
    prompts: dict[str, tuple[str, ...]]
    draws: int
    control: bool
    choosing_accuracy: float
    accuracy: float
    accuracy_interval: Interval
    macro_f1: float
    macro_f1_interval: Interval
    difference: Difference | None


class ConfusedPair(Frozen):
    """Two labels and how many held-out rows of one were tagged as the other, by set of prompts; a mean for several draws."""

    labels: tuple[str, str]
    rows: dict[str, float]


class PromptComparison(Frozen):
    """The result of `tagger prompts`.

    choosing_rows, rows: of the half that chose and of the held-out half, which all other figures are about. scores: the prompts
    of the settings first. confused: the pairs that these confuse most, most first. chosen: the best set of the choosing half.
    better: whether it is surely better than the first on the held-out rows. written: the settings file that has it now.
    """

    schema_version: Literal[1] = 1
    manifest: str
    attribute: str
    labels: tuple[str, ...]
    model: str
    choosing_rows: int
    rows: int
    scores: tuple[PromptScore, ...]
    confused: tuple[ConfusedPair, ...]
    chosen: str
    better: bool
    written: str | None = None

    def score_of(self, name: str) -> PromptScore:
        return next(score for score in self.scores if score.name == name)

    def to_json(self) -> str:
        return to_json(self.model_dump(mode="json"))

    def to_text(self) -> str:
        """Return the figures, the confused pairs, and the choice in words, for a terminal."""
        head = ("prompts", "a label", "accuracy", "95 % interval", "macro F1", "95 % interval", "difference", "95 % interval")
        rows = [_cells(score) for score in self.scores]
        lines = [
            f"{one_line(self.attribute)}: {self.rows} held-out rows; {self.choosing_rows} others chose",
            plain_table(head, rows, indent=2),
        ]
        if self.confused:
            names = [score.name for score in self.scores]
            changes = [
                (" / ".join(pair.labels), f"{pair.rows[names[0]]:g}", *(_change(pair, names[0], name) for name in names[1:]))
                for pair in self.confused
            ]
            lines += ["  most confused, and what each set changes", plain_table(("", *names), changes, indent=2)]
        return "\n".join([*lines, *self._conclusion()])

    def _conclusion(self) -> list[str]:
        first, chosen = self.scores[0], self.score_of(self.chosen)
        lines = []
        if chosen.difference is None:
            lines.append(f"No set was better than the prompts of the {first.name} on the rows that chose: they stay.")
        else:
            found = chosen.difference
            verdict = (
                "better" if self.better else f"not surely better ({SURE:.0%} would be): the prompts of the {first.name} stay"
            )
            lines.append(
                f"Best on the rows that chose: {chosen.name}. On the held-out rows {100 * found.mean:+.1f} points "
                f"({100 * found.low:+.1f} to {100 * found.high:+.1f}), above 0 in {found.better:.1%} of resamples: {verdict}."
            )
        for control in (score for score in self.scores if score.control and not chosen.templates and chosen.difference):
            gain = 100 * (chosen.accuracy - control.accuracy)
            lines.append(f"Over {control.name} in their place, what {chosen.name} say is worth {gain:+.1f} points.")
        return lines


def compare_prompts(
    truth: NDArray[np.int64],
    groups: NDArray[np.int64],
    halves: tuple[NDArray[np.int64], NDArray[np.int64]],
    sets: Mapping[str, Tried],
    labels: Sequence[str],
    manifest: str,
    names: tuple[str, str],
) -> PromptComparison:
    """Return the figures of each set of prompts, the first of which is the yardstick.

    truth, groups: int64 (N,), indices of labels, and numbers that rows share which are not independent. halves: int64 indices of
    the rows that choose and of those that are held out. names: the attribute's and the model's.
    """
    choosing, held_out = halves
    right = {name: np.mean([tags == truth for tags in one.tags], axis=0) for name, one in sets.items()}

    def rank(name: str) -> tuple[float, float]:
        f1 = np.mean([_macro_f1(truth[choosing], tags[choosing]) for tags in sets[name].tags])
        return round(float(right[name][choosing].mean()), 9), float(f1)

    first = next(iter(sets))
    chosen = max((name for name, one in sets.items() if not one.control), key=rank)  # of equals, the first
    scores, matrices = [], {}
    for name, one in sets.items():
        counted = [confusion_matrix(truth[held_out], tags[held_out], labels=np.arange(len(labels))) for tags in one.tags]
        matrices[name] = np.mean(counted, axis=0)
        difference = None
        if name != first:
            difference = paired_difference(right[name][held_out], right[first][held_out], groups[held_out])
        scores.append(
            PromptScore(
                name=name,
                templates=one.templates,
                prompts=dict(zip(labels, one.prompts, strict=True)),
                draws=len(one.tags),
                control=one.control,
                choosing_accuracy=float(right[name][choosing].mean()),
                accuracy=float(right[name][held_out].mean()),
                accuracy_interval=_mean([share_interval(int(np.trace(each)), len(held_out)) for each in counted]),
                macro_f1=float(np.mean([_macro_f1(truth[held_out], tags[held_out]) for tags in one.tags])),
                macro_f1_interval=_mean([macro_f1_interval(each) for each in counted]),
                difference=difference,
            )
        )
    best = next(score.difference for score in scores if score.name == chosen)
    return PromptComparison(
        manifest=manifest,
        attribute=names[0],
        labels=tuple(labels),
        model=names[1],
        choosing_rows=len(choosing),
        rows=len(held_out),
        scores=tuple(scores),
        confused=_confused(matrices, labels),
        chosen=chosen,
        better=best is not None and best.mean > 0 and best.better >= SURE,
    )


def _macro_f1(truth: NDArray[np.int64], tag: NDArray[np.int64]) -> float:
    return float(f1_score(truth, tag, average="macro", zero_division=0))


def _mean(intervals: Sequence[Interval | None]) -> Interval:
    low, high = np.mean([interval for interval in intervals if interval], axis=0)
    return float(low), float(high)


def _confused(matrices: Mapping[str, NDArray[np.float64]], labels: Sequence[str]) -> tuple[ConfusedPair, ...]:
    """Return the pairs of labels that the first set confuses most."""
    both = {name: matrix + matrix.T for name, matrix in matrices.items()}
    first = np.triu(next(iter(both.values())), 1)
    order = np.argsort(-first, axis=None, kind="stable")[:PAIRS_SHOWN]
    pairs = [divmod(int(place), len(labels)) for place in order if first.flat[place]]
    return tuple(
        ConfusedPair(labels=(labels[i], labels[j]), rows={name: float(matrix[i, j]) for name, matrix in both.items()})
        for i, j in pairs
    )


def _cells(score: PromptScore) -> tuple[str, ...]:
    difference = score.difference
    count = sorted({len(prompts) for prompts in score.prompts.values()})
    number = "-".join(str(one) for one in dict.fromkeys((count[0], count[-1])))
    return (
        score.name + (f" (control, {score.draws} draws)" if score.control else ""),
        number,
        f"{score.accuracy:.1%}",
        _interval(score.accuracy_interval, ".1%"),
        f"{score.macro_f1:.3f}",
        _interval(score.macro_f1_interval, ".3f"),
        "" if difference is None else f"{100 * difference.mean:+.1f}",
        "" if difference is None else f"({100 * difference.low:+.1f} to {100 * difference.high:+.1f})",
    )


def _interval(interval: Interval, form: str) -> str:
    return f"({interval[0]:{form}} to {interval[1]:{form}})"


def _change(pair: ConfusedPair, first: str, name: str) -> str:
    change = round(pair.rows[name] - pair.rows[first], 1)
    return f"{change:+g}" if change else "0"
