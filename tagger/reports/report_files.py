"""What lies beside report.html for whoever wants a picture alone: confusion matrices, and a sheet of examples. PNG."""

from __future__ import annotations

from itertools import islice

import numpy as np

from tagger.evaluation.metrics import AttributeEvaluation
from tagger.images.thumbnails import Thumbnail
from tagger.reports.html import Report
from tagger.reports.plots import Sample, draw_confusion, draw_samples

DRAWN = 40  # labels of the largest confusion matrix that is drawn; of more, those that are confused most
COLUMNS, ROWS = 8, 3  # of a sheet


def draw_files(report: Report) -> dict[str, bytes]:
    """Return name -> PNG: for each attribute confusion-<name>.png, where it has ground truth, and examples-<name>.png."""
    files = {}
    for name, evaluation in report.evaluation.items():
        if evaluation.labelled_rows:
            files[f"confusion-{name}.png"] = _confusion(name, evaluation)
    for attribute in report.attributes:
        if samples := _samples(report, attribute.name):
            files[f"examples-{attribute.name}.png"] = draw_samples(samples, COLUMNS)
    return files


def _confusion(name: str, evaluation: AttributeEvaluation) -> bytes:
    matrix = np.asarray(evaluation.confusion_matrix, np.int64)
    occurring = np.flatnonzero(matrix.sum(0) + matrix.sum(1))
    wrong = matrix.sum(0) + matrix.sum(1) - 2 * np.diag(matrix)
    shown = np.sort(occurring[np.argsort(-wrong[occurring], kind="stable")][:DRAWN])
    title = f"{name}: {evaluation.accuracy:.1%} of {evaluation.labelled_rows:,} labelled rows"
    if len(shown) < len(occurring):
        title += f"; {len(shown)} of {len(occurring)} labels"
    return draw_confusion([(title, matrix[np.ix_(shown, shown)].tolist())], [evaluation.labels[place] for place in shown])


def _samples(report: Report, name: str) -> list[Sample]:
    """Return random rows that have a picture, of every label the first one before the second one of any."""
    answers = ((row, report.rows[row].answers[name]) for row in report.gallery.attributes[name].alternating())
    found = (
        Sample(np.asarray(picture.decode()), answer.truth, [("", answer.label or "", answer.confidence or 0.0)])
        for row, answer in answers
        if isinstance(picture := report.pictures.get(row), Thumbnail)
    )
    return list(islice(found, COLUMNS * ROWS))
