"""Draw what a page or a folder shows: confusion matrices, sheets of pictures, curves. By matplotlib, in one style."""

from __future__ import annotations

import io
import math
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple

import numpy as np
from cycler import cycler
from markupsafe import Markup
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter
from numpy.typing import NDArray

from tagger.core.text import one_line
from tagger.evaluation.comparison import Score, Spread
from tagger.evaluation.confidence import AttributeConfidence
from tagger.reports.inline_svg import INK, inline_svg

# Colours that people with any kind of colour vision tell apart (Okabe and Ito 2008).
BLUE, ORANGE, GREEN, VERMILION, SKY, PURPLE = "#0072b2", "#e69f00", "#009e73", "#d55e00", "#56b4e9", "#cc79a7"
CORRECT, WRONG = GREEN, VERMILION
GREY = "#868e96"
NUMBERED = 25  # labels of the largest confusion matrix whose cells can hold a number
DPI = 100
WIDEST = 60  # inches of a sheet of confusion matrices
# Of a curve each: a marker of its own, and curves of one colour differ in how they are dashed as well.
CURVES = cycler(linestyle=["-", "--", ":"]) * cycler(color=[BLUE, VERMILION, GREEN, PURPLE]) + cycler(marker=list("os^Dv*XP<>ph"))
ZERO = Spread(mean=0, standard_deviation=None, low=None, high=None, of_draws=())
NEAR_BEST = 0.1  # of accuracy: what lies further below the best does not stretch the picture of differences
LINE, GAP = 17, 14  # pixels: of a line of text on a sheet, between its pictures
TEXT = 24  # characters of a text on a picture

STYLE = {
    "font.size": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.prop_cycle": cycler(color=[BLUE, ORANGE, GREEN, VERMILION, SKY, PURPLE]),
    "axes.titlesize": 9,
    "grid.color": GREY,
    "grid.alpha": 0.3,
    "svg.fonttype": "none",
    "svg.hashsalt": "tagger",  # the same picture is the same bytes
}
# Of what goes into a page, whose text may be dark or light.
INLINE = {**STYLE, **dict.fromkeys(("text.color", "axes.labelcolor", "axes.edgecolor", "xtick.color", "ytick.color"), INK)}


class Sample(NamedTuple):
    """A picture and what each system answered; pixels: uint8 (H, W, 3). answers: (system, label, confidence)."""

    pixels: NDArray[np.uint8]
    truth: str | None
    answers: Sequence[tuple[str, str, float]]


def draw_confusion(matrices: Sequence[tuple[str, Sequence[Sequence[int]]]], labels: Sequence[str]) -> bytes:
    """Draw confusion matrices, each under its title, their rows (true labels) in percent. PNG."""
    columns = min(len(matrices), max(3, math.ceil(math.sqrt(len(matrices)))))
    rows = -(-len(matrices) // columns)
    side = min(2.5 + 0.45 * len(labels), 20.0, WIDEST / columns)
    with _style(STYLE):
        figure = Figure(figsize=(side * columns, side * rows), layout="constrained")
        places = [axes for row in _grid(figure, rows, columns) for axes in row]
        for axes in places[len(matrices) :]:
            axes.remove()
        for axes, (title, matrix) in zip(places, matrices, strict=False):
            counts = np.asarray(matrix, np.float64)
            shares = counts / np.maximum(counts.sum(1, keepdims=True), 1)
            axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
            _text(axes.set_title, title)
            ticks, names = range(len(labels)), [_short(label) for label in labels]
            axes.set_xticks(ticks, names, rotation=45, ha="right", parse_math=False)
            axes.set_yticks(ticks, names, parse_math=False)
            axes.set_xlabel("found")
            axes.set_ylabel("true")
            if len(labels) <= NUMBERED:
                for row, column in np.argwhere(counts):
                    share = shares[row, column]
                    colour = "white" if share > 0.5 else "black"
                    axes.text(column, row, f"{100 * share:.0f}", ha="center", va="center", color=colour, fontsize=8)
        return _png(figure)


def draw_samples(samples: Sequence[Sample], columns: int) -> bytes:
    """Draw each picture under its true label, with each system's answer, its confidence, and whether it is correct. PNG."""
    lines = 1 + max(len(sample.answers) for sample in samples)
    width = max(max(sample.pixels.shape[1] for sample in samples), 150) + GAP
    height = max(sample.pixels.shape[0] for sample in samples) + lines * LINE + GAP
    rows = -(-len(samples) // columns)
    with _style(STYLE):
        figure = Figure(figsize=(columns * width / DPI, rows * height / DPI), dpi=DPI)

        def write(x: float, y: float, text: str, **style: Any) -> None:
            figure.text(x / columns / width, y / rows / height, text, ha="center", va="top", parse_math=False, **style)

        for number, sample in enumerate(samples):
            left, top = number % columns * width, (rows - number // columns) * height
            middle, (tall, wide) = left + width / 2, sample.pixels.shape[:2]
            write(middle, top - 2, "no truth" if sample.truth is None else _short(sample.truth), fontsize=9)
            figure.figimage(sample.pixels, left + (width - wide) // 2, top - LINE - tall)
            for place, (system, label, confidence) in enumerate(sample.answers):
                mark, colour = "", "black"
                if sample.truth is not None:
                    mark, colour = ("✓ ", CORRECT) if label == sample.truth else ("✗ ", WRONG)
                text = f"{mark}{system}{': ' if system else ''}{_short(label)} {confidence:.0%}"
                write(middle, top - LINE - tall - 4 - place * LINE, text, fontsize=8, color=colour)
        return _png(figure)


def draw_curves(scores: Sequence[Score]) -> bytes:
    """Draw accuracy by the number of shots, a line and its 95 % interval for each system; beside it, the first subtracted. PNG.

    The differences are draw by draw, so their intervals are narrower: what is easy or hard in a draw is so for all systems.
    """
    most = max(score.shots for score in scores)
    final = {score.system: score.accuracy.mean for score in scores if score.shots == most}
    first, *others = final
    near = {system for system in others if final[system] >= max(final.values()) - NEAR_BEST}
    with _style(STYLE):
        figure = Figure(figsize=(10 if others else 6, 4.4), layout="constrained")
        left, *right = _grid(figure, 1, 2 if others else 1)[0]
        seen = []
        for (system, _), style in zip(final.items(), CURVES(), strict=False):
            points = sorted((score for score in scores if score.system == system), key=lambda score: score.shots)
            _curve(left, [(point.shots, point.accuracy) for point in points], system, style)
            for axes in right:
                bounds = _curve(axes, [(point.shots, point.difference or ZERO) for point in points], system, style)
                seen += bounds if system in near else []
        for axes in (left, *right):
            axes.set_xscale("log", base=2)
            ticks = sorted({score.shots for score in scores})
            axes.set_xticks(ticks, [str(tick) for tick in ticks])
            axes.yaxis.set_major_formatter(PercentFormatter(1))
            axes.set_xlabel("labelled pictures of each label")
            axes.grid()
        left.set_ylim(0, 1.02)
        left.set_ylabel("accuracy")
        for axes in right:
            margin = 0.05 * (max(seen, default=0) - min(seen, default=0)) + 0.002
            axes.set_ylim(min(seen, default=0) - margin, max(seen, default=0) + margin)
            axes.yaxis.set_major_formatter(PercentFormatter(1, symbol=""))
            axes.set_ylabel(f"accuracy less that of {first}, points")
        lines = dict(zip(final, left.get_lines(), strict=True))
        order = sorted(final, key=lambda system: -final[system])
        figure.legend([lines[system] for system in order], order, loc="outside right center", handlelength=3.5, frameon=False)
        return _png(figure)


def _curve(axes: Axes, points: Sequence[tuple[int, Spread]], label: str, style: dict[str, Any]) -> list[float]:
    """Draw a line of means with a band between the bounds of their intervals, and return these bounds."""
    shots, means = [number for number, _ in points], [spread.mean for _, spread in points]
    low = [spread.mean if spread.low is None else spread.low for _, spread in points]
    high = [spread.mean if spread.high is None else spread.high for _, spread in points]
    axes.plot(shots, means, label=label, markersize=4, linewidth=1.2, **style)
    axes.fill_between(shots, low, high, color=style["color"], alpha=0.12, linewidth=0)
    return low + high


def draw_reliability(confidence: AttributeConfidence, name: str) -> Markup:
    """Draw how often labels of a confidence are right: bars beside the diagonal on which they would lie, and their rows. SVG."""
    bins = confidence.bins
    with _style(INLINE):
        figure = Figure(figsize=(4.2, 3.4), layout="constrained")
        upper, lower = figure.subplots(2, 1, sharex=True, height_ratios=(3, 1))
        places, widths = [one.low for one in bins], [one.high - one.low for one in bins]
        upper.bar(places, [one.accuracy for one in bins], widths, align="edge", color=BLUE, alpha=0.75, edgecolor="none")
        upper.plot([0, 1], [0, 1], color=INK, linestyle="--", linewidth=1)
        upper.plot([one.confidence for one in bins], [one.accuracy for one in bins], "o", color=VERMILION, markersize=4)
        upper.set(xlim=(0, 1), ylim=(0, 1.02), ylabel="right")
        upper.yaxis.set_major_formatter(PercentFormatter(1))
        lower.bar(places, [one.rows for one in bins], widths, align="edge", color=GREY, edgecolor="none")
        lower.set(xlabel="confidence", ylabel="rows")
        lower.xaxis.set_major_formatter(PercentFormatter(1))
        return _svg(figure, f"reliability-{name}", f"Reliability diagram of {name}; the numbers are in the table")


def draw_risk_coverage(confidence: AttributeConfidence, promised: float | None, name: str) -> Markup:
    """Draw the share of wrong labels among the most confident rows, today's accepted rows, and the promised precision. SVG."""
    coverage = np.array([one.coverage for one in confidence.risk_coverage])
    risk = np.array([one.risk for one in confidence.risk_coverage], np.float64)  # None becomes NaN, which is not drawn
    with _style(INLINE):
        figure = Figure(figsize=(4.2, 3.4), layout="constrained")
        [[axes]] = _grid(figure, 1, 1)
        axes.plot(coverage, risk, color=BLUE, marker="o", markersize=3, label="most confident rows first")
        accepted = confidence.accepted
        if accepted is not None and accepted.risk is not None:
            axes.plot([accepted.coverage], [accepted.risk], "D", color=VERMILION, label="accepted today")
        if promised is not None:
            axes.axhline(1 - promised, color=GREEN, linestyle="--", linewidth=1, label="promised at most")
        axes.set(xlim=(0, 1.02), xlabel="share of the rows that is accepted", ylabel="wrong among them")
        axes.set_ylim(bottom=0)
        axes.xaxis.set_major_formatter(PercentFormatter(1))
        axes.yaxis.set_major_formatter(PercentFormatter(1))
        axes.grid()
        axes.legend(loc="upper left", frameon=False)
        return _svg(figure, f"risk-{name}", f"Risk and coverage of {name}; the numbers are in the table")


def draw_confidences(before: Sequence[int], now: Sequence[int], name: str) -> Markup:
    """Draw how confidences are distributed on two nights, as shares of the rows; before, now: rows of equal bins. SVG."""
    edges = np.linspace(0, 1, len(now) + 1)
    with _style(INLINE):
        figure = Figure(figsize=(4.2, 2.6), layout="constrained")
        [[axes]] = _grid(figure, 1, 1)
        axes.stairs(np.divide(now, sum(now)), edges, fill=True, color=BLUE, alpha=0.6, label="now")
        axes.stairs(np.divide(before, sum(before)), edges, color=VERMILION, linewidth=1.5, label="before")
        axes.set(xlim=(0, 1), xlabel="confidence", ylabel="rows")
        axes.xaxis.set_major_formatter(PercentFormatter(1))
        axes.yaxis.set_major_formatter(PercentFormatter(1))
        axes.legend(loc="upper left", frameon=False)
        return _svg(figure, f"confidences-{name}", f"Confidences of {name} before and now; the numbers are in the table")


def _grid(figure: Figure, rows: int, columns: int) -> list[list[Axes]]:
    found: list[list[Axes]] = figure.subplots(rows, columns, squeeze=False).tolist()
    return found


def _text(write: Any, text: str, **style: Any) -> None:
    write(text, **style).set_parse_math(False)  # a label may hold a $


def _short(text: str) -> str:
    whole = one_line(text)
    return whole if len(whole) <= TEXT else f"{whole[: TEXT - 1]}…"


@contextmanager
def _style(style: Any) -> Iterator[None]:
    with rc_context(style), warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # about letters that the font lacks
        yield


def _png(figure: Figure) -> bytes:
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=DPI)
    return buffer.getvalue()


def _svg(figure: Figure, name: str, title: str) -> Markup:
    buffer = io.StringIO()
    figure.savefig(buffer, format="svg", transparent=True, metadata={"Date": None, "Creator": None})
    return inline_svg(buffer.getvalue(), name, title)
