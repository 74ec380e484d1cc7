"""What a report says of one attribute: figures, labels, confusions and their examples, as a template takes it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from math import sqrt
from typing import Any

from tagger.evaluation.confidence import AttributeConfidence
from tagger.evaluation.intervals import Interval
from tagger.evaluation.metrics import AttributeEvaluation
from tagger.reports.gallery import Chosen
from tagger.reports.page import percent
from tagger.settings.attributes import Attribute

MATRIX_LABELS = 25  # of the largest confusion matrix that is shown whole
CONFUSIONS = 40  # that are listed of a larger one
CELLS = 150  # of all attributes' confusion matrices, that have examples
HEAT = 10  # shades of a confusion matrix


def attribute_section(
    attribute: Attribute,
    evaluation: AttributeEvaluation | None,
    chosen: Chosen,
    *,
    guarantee: Mapping[str, Any] | None,
    confidence: AttributeConfidence | None,
) -> dict[str, Any]:
    """Return the values of templates/report.html for one attribute. guarantee: its promised precision, as in RunSummary."""
    name = attribute.name
    judged = confidence is not None and confidence.labelled_rows > 0
    return {
        "name": name,
        "evaluation": evaluation,
        "figures": _figures(evaluation) if evaluation else [],
        "chosen": chosen,
        "labels": _labels(attribute, evaluation, chosen),
        "places": {label: place for place, label in enumerate(attribute.label_names)},
        "matrix": _matrix(name, evaluation, chosen) if evaluation and len(evaluation.per_class) <= MATRIX_LABELS else None,
        "confusions": _confusions(name, evaluation, chosen) if evaluation else [],
        "cells": [_cell(name, attribute.label_names, cell, rows, evaluation) for cell, rows in chosen.cells.items() if rows],
        "thresholds": attribute.thresholds,
        "guarantee": guarantee,
        "confidence": confidence if judged else None,
        "plots": _draw(name, confidence, guarantee) if confidence is not None and judged else None,
    }


def _draw(name: str, confidence: AttributeConfidence, guarantee: Mapping[str, Any] | None) -> dict[str, str]:
    from tagger.reports.plots import draw_reliability, draw_risk_coverage  # matplotlib takes its time

    promised = None if guarantee is None else guarantee["target"]
    return {
        "reliability": draw_reliability(confidence, name),
        "risk": draw_risk_coverage(confidence, promised, name),
    }


def interval(found: Interval | None, show: Callable[[float], str]) -> str:
    """Return a 95 % interval as text, "" for none."""
    return f"95 %: {show(found[0])} to {show(found[1])}" if found else ""


def _figures(evaluation: AttributeEvaluation) -> list[tuple[str, str, str]]:
    """Return name, value and detail of an attribute's figures."""
    if evaluation.accuracy is None or evaluation.macro_f1 is None or evaluation.weighted_f1 is None:
        return []
    figures = [
        ("accuracy", percent(evaluation.accuracy), interval(evaluation.accuracy_interval, percent)),
        ("macro F1", f"{evaluation.macro_f1:.3f}", interval(evaluation.macro_f1_interval, "{:.3f}".format)),
        ("weighted F1", f"{evaluation.weighted_f1:.3f}", ""),
        ("labelled rows", f"{evaluation.labelled_rows:,}", ""),
    ]
    if evaluation.error_rows:
        figures.append(("labelled rows with errors", f"{evaluation.error_rows:,}", "not in these figures"))
    if evaluation.rejected_rows:
        figures.append(("labelled rows taken for unknown", f"{evaluation.rejected_rows:,}", "to review, not in these figures"))
    return figures


def _labels(attribute: Attribute, evaluation: AttributeEvaluation | None, chosen: Chosen) -> list[dict[str, Any]]:
    """Return a row for each label that occurs, the worst F1 first, or the commonest where there is no truth."""
    per_class = evaluation.per_class if evaluation else {}
    rows = [
        {
            "label": label,
            "place": place,
            "tagged": chosen.counts.get(label, 0),
            "confidence": chosen.confidence.get(label),
            **(per_class.get(label) or dict.fromkeys(("precision", "recall", "f1", "support"))),
        }
        for place, label in enumerate(attribute.label_names)
    ]
    rows = [row for row in rows if row["tagged"] or row["support"]]
    if per_class:
        return sorted(rows, key=lambda row: 2.0 if row["f1"] is None else float(row["f1"]))
    return sorted(rows, key=lambda row: -int(row["tagged"] or 0))


def example_cells(evaluation: AttributeEvaluation, attributes: int) -> list[tuple[int, int]]:
    """Return the cells of a confusion matrix of which examples are shown, the commonest confusions first.

    attributes: how many have a confusion matrix and share what one page can hold.
    """
    cells = [(i != j, rows, i, j) for i, line in enumerate(evaluation.confusion_matrix) for j, rows in enumerate(line) if rows]
    if len(evaluation.per_class) > MATRIX_LABELS:
        cells = [cell for cell in cells if cell[0]]
    cells.sort(key=lambda cell: (-cell[0], -cell[1]))
    shown = [(i, j) for _, _, i, j in cells]
    return shown[: min(CELLS // max(attributes, 1), CONFUSIONS if len(evaluation.per_class) > MATRIX_LABELS else CELLS)]


def anchor(name: str, cell: tuple[int, int]) -> str:
    """Return the id of a cell's examples in the page."""
    return f"cell-{name}-{cell[0]}-{cell[1]}"


def _matrix(name: str, evaluation: AttributeEvaluation, chosen: Chosen) -> dict[str, Any]:
    """Return the labels that occur, and for each a row of cells; heat: 0 to HEAT, by the root of its share of the truth."""
    places = [place for place, label in enumerate(evaluation.labels) if label in evaluation.per_class]
    rows = []
    for i in places:
        line = evaluation.confusion_matrix[i]
        total = sum(line)
        cells = [
            {
                "tag": evaluation.labels[j],
                "rows": line[j],
                "correct": i == j,
                "heat": 0 if not line[j] else max(1, round(HEAT * sqrt(line[j] / total))),
                "anchor": anchor(name, (i, j)) if chosen.cells.get((i, j)) else None,
            }
            for j in places
        ]
        rows.append({"label": evaluation.labels[i], "total": total, "cells": cells})
    return {"labels": [evaluation.labels[place] for place in places], "rows": rows}


def _confusions(name: str, evaluation: AttributeEvaluation, chosen: Chosen) -> list[dict[str, Any]]:
    """Return the commonest confusions, each with its share of the rows of that truth."""
    matrix, labels = evaluation.confusion_matrix, evaluation.labels
    pairs = [(rows, i, j) for i, line in enumerate(matrix) for j, rows in enumerate(line) if rows and i != j]
    pairs.sort(key=lambda pair: -pair[0])
    return [
        {
            "truth": labels[i],
            "tag": labels[j],
            "rows": rows,
            "share": rows / sum(matrix[i]),
            "anchor": anchor(name, (i, j)) if chosen.cells.get((i, j)) else None,
        }
        for rows, i, j in pairs[:CONFUSIONS]
    ]


def _cell(
    name: str, labels: Sequence[str], cell: tuple[int, int], rows: list[int], evaluation: AttributeEvaluation | None
) -> dict[str, Any]:
    total = evaluation.confusion_matrix[cell[0]][cell[1]] if evaluation else len(rows)
    return {"anchor": anchor(name, cell), "truth": labels[cell[0]], "tag": labels[cell[1]], "rows": rows, "total": total}
