"""Labelled rows whose truth looks wrong."""

from __future__ import annotations

import numpy as np
import pyarrow as pa

from tagger.catalog.schemas import TOP_TYPE
from tagger.evaluation.label_errors import LabelErrors

LABELS = ("shirt", "dress", "shoes", "hat", "coat", "skirt", "shorts")


def _result(labels: list[str | None]) -> pa.Table:
    """Return rows whose label has a confidence of 0.9, and four others 0.02 each."""
    tops = [
        None if label is None else [(label, 0.9), *((other, 0.02) for other in [one for one in LABELS if one != label][:4])]
        for label in labels
    ]
    return pa.table({"kind_label": pa.array(labels, pa.string()), "kind_top": pa.array(tops, TOP_TYPE)})


def test_a_truth_that_the_model_confidently_denies_is_found() -> None:
    found = [LABELS[row % 3] for row in range(60)]
    truth = np.arange(60) % 3
    truth[[4, 30]] = [0, 2]  # tagged dress and shirt
    errors = LabelErrors("kind", LABELS)
    errors.update(_result(found[:40]), truth[:40], 0)
    errors.update(_result(found[40:]), truth[40:], 40)
    assert sorted(errors.find().tolist()) == [4, 30]


def test_rows_without_truth_or_tag_are_left_out() -> None:
    labels: list[str | None] = [LABELS[row % 3] for row in range(30)]
    truth = np.arange(30) % 3
    truth[4], truth[7], labels[7] = -1, 0, None
    errors = LabelErrors("kind", LABELS)
    errors.update(_result(labels), truth, 0)
    assert errors.find().tolist() == []


def test_one_label_alone_is_not_judged() -> None:
    errors = LabelErrors("kind", LABELS)
    assert errors.find().tolist() == []
    errors.update(_result(["shirt", "dress"]), np.array([0, 0]), 0)
    assert errors.find().tolist() == []
