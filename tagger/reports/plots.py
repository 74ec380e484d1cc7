"""Draw a comparison: confusion matrices, sample predictions, learning curves. PNG, by matplotlib."""

from __future__ import annotations

import io
import warnings
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter
from numpy.typing import NDArray

from tagger.evaluation.comparison import Score

CORRECT, WRONG = "#1a7f37", "#cf222e"
NUMBERED = 20  # labels of the largest confusion matrix whose cells can hold a number
DPI = 100


class Sample(NamedTuple):
    """A picture and what each system answered; pixels: uint8 (H, W, 3). answers: (system, label, confidence)."""

    pixels: NDArray[np.uint8]
    truth: str
    answers: Sequence[tuple[str, str, float]]


def draw_confusion(scores: Sequence[Score], labels: Sequence[str]) -> bytes:
    """Draw a confusion matrix for each score, its rows (true labels) in percent."""
    side = min(2.5 + 0.45 * len(labels), 20.0)
    figure = Figure(figsize=(side * len(scores), side), layout="constrained")
    for axes, score in zip(_grid(figure, 1, len(scores))[0], scores, strict=True):
        counts = np.asarray(score.confusion_matrix, np.float64)
        shares = counts / np.maximum(counts.sum(1, keepdims=True), 1)
        axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
        _text(axes.set_title, f"{score.system}, {score.shots} shots: {score.accuracy.mean:.1%}")
        ticks = range(len(labels))
        axes.set_xticks(ticks, labels, rotation=45, ha="right", parse_math=False)
        axes.set_yticks(ticks, labels, parse_math=False)
        axes.set_xlabel("found")
        axes.set_ylabel("true")
        if len(labels) <= NUMBERED:
            for (row, column), share in np.ndenumerate(shares):
                colour = "white" if share > 0.5 else "black"
                axes.text(column, row, f"{100 * share:.0f}", ha="center", va="center", color=colour, fontsize=8)
    return _png(figure)


def draw_samples(samples: Sequence[Sample], columns: int) -> bytes:
    """Draw each picture under its true label, with each system's answer, its confidence, and whether it is correct."""
    rows = -(-len(samples) // columns)
    lines = max(len(sample.answers) for sample in samples)
    figure = Figure(figsize=(2.1 * columns, (2.2 + 0.2 * lines) * rows))
    figure.subplots_adjust(left=0, right=1, bottom=0, top=1, wspace=0.05, hspace=0.2 + 0.11 * lines)
    cells = [axes for row in _grid(figure, rows, columns) for axes in row]
    for axes in cells:
        axes.axis("off")
    for axes, sample in zip(cells, samples, strict=False):
        axes.imshow(sample.pixels)
        _text(axes.set_title, sample.truth, fontsize=10)
        for number, (system, label, confidence) in enumerate(sample.answers):
            correct = label == sample.truth
            axes.text(
                0.5,
                -0.04 - 0.1 * number,
                f"{'✓' if correct else '✗'} {system}: {label} {confidence:.0%}",
                transform=axes.transAxes,
                ha="center",
                va="top",
                fontsize=8,
                color=CORRECT if correct else WRONG,
                parse_math=False,
            )
    return _png(figure)


def draw_curves(scores: Sequence[Score]) -> bytes:
    """Draw the accuracy by the number of shots, a line for each system, with its interval."""
    figure = Figure(figsize=(6, 4), layout="constrained")
    [[axes]] = _grid(figure, 1, 1)
    for system in dict.fromkeys(score.system for score in scores):
        points = sorted((score for score in scores if score.system == system), key=lambda score: score.shots)
        shots, accuracies = [point.shots for point in points], [point.accuracy for point in points]
        [line] = axes.plot(shots, [one.mean for one in accuracies], marker="o", label=system)
        low = [one.mean if one.low is None else one.low for one in accuracies]
        high = [one.mean if one.high is None else one.high for one in accuracies]
        axes.fill_between(shots, low, high, color=line.get_color(), alpha=0.2, linewidth=0)
    axes.set_xscale("log", base=2)
    ticks = sorted({score.shots for score in scores})
    axes.set_xticks(ticks, [str(tick) for tick in ticks])
    axes.set_ylim(0, 1.02)
    axes.yaxis.set_major_formatter(PercentFormatter(1))
    axes.set_xlabel("labelled pictures of each label")
    axes.set_ylabel("accuracy")
    axes.grid(alpha=0.3)
    axes.legend(loc="lower right")
    return _png(figure)


def _grid(figure: Figure, rows: int, columns: int) -> list[list[Axes]]:
    found: list[list[Axes]] = figure.subplots(rows, columns, squeeze=False).tolist()
    return found


def _text(write: Any, text: str, **style: Any) -> None:
    write(text, **style).set_parse_math(False)  # a label may hold a $


def _png(figure: Figure) -> bytes:
    buffer = io.BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # about letters that the font lacks
        figure.savefig(buffer, format="png", dpi=DPI, bbox_inches="tight")
    return buffer.getvalue()
