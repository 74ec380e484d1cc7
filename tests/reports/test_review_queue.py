"""The queue of a review: what speaks against a row, the smallest margins, turns for labels, each picture once."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tagger.catalog.schemas import TOP_TYPE
from tagger.evaluation.gates import GateResult
from tagger.reports.review_queue import ASKED, DOUBTED, SUSPECT, UNCERTAIN, Asking, QueueBuilder, doubted_labels, margins

LABELS = ("a", "b", "c")


def result(rows: Sequence[tuple[str | None, float]], **columns: Any) -> pa.Table:
    """A result of one attribute: label and margin of each row; None for an error."""
    tops = [
        None if label is None else [{"label": label, "confidence": 0.5 + margin}, {"label": "z", "confidence": 0.5}]
        for label, margin in rows
    ]
    given = {
        "image": [f"{number}.jpg" for number in range(len(rows))],
        "truth": pa.array([None] * len(rows), pa.string()),
        "kind_label": pa.array([label for label, _ in rows], pa.string()),
        "kind_top": pa.array(tops, TOP_TYPE),
        "tag_status": ["error" if label is None else "tagged" for label, _ in rows],
        "tag_reason": pa.array([None] * len(rows), pa.string()),
    }
    return pa.table({**given, **columns})


def asking(**more: Any) -> Asking:
    values = {"attribute": "kind", "labels": LABELS, "only": True, "truth_column": "truth", "note_column": None}
    return Asking(**{**values, "image_column": "image", **more})


def queue(table: pa.Table, budget: int = 100, batch: int = 1000, **more: Any) -> list[tuple[int, int]]:
    builder = QueueBuilder(asking(**more), budget)
    for part in table.to_batches(batch):
        builder.update(part)
    return [(one.row, one.kind) for one in builder.result()]


def rows_of(found: list[tuple[int, int]]) -> list[int]:
    return [row for row, _ in found]


def test_the_smallest_margin_comes_first_and_labels_take_turns():
    table = result([("a", 0.01), ("a", 0.02), ("a", 0.03), ("b", 0.4), ("c", 0.1), (None, 0), ("c", 0.05)])
    assert rows_of(queue(table)) == [0, 6, 3, 1, 4, 2]


def test_what_has_truth_or_a_note_is_not_asked_again():
    table = result([("a", 0.1)] * 5, truth=["a", "b", None, "", "no label"], note=[None, None, "bad-picture", None, None])
    assert rows_of(queue(table)) == [2, 3]
    assert rows_of(queue(table, note_column="note")) == [3]
    assert rows_of(queue(table, truth_column=None)) == [0, 1, 2, 3, 4]


def test_rows_that_something_speaks_against_come_before_close_calls():
    table = result(
        [("a", 0.01), ("a", 0.3), ("b", 0.2), ("c", 0.9), ("c", 0.4)],
        tag_status=["tagged", "review", "tagged", "tagged", "tagged"],
        tag_reason=[None, "low-confidence: kind 0.3 is below 0.4", None, None, None],
        truth=[None, None, None, "a", "a"],
    )
    assert queue(table, doubted={"b"}, suspects={3, 4}) == [
        (3, SUSPECT),  # of two that the model denies the one that it denies more
        (1, ASKED),
        (2, DOUBTED),
        (4, SUSPECT),
        (0, UNCERTAIN),
    ]


def test_of_several_attributes_only_this_ones_reviews_count():
    reasons = [
        "low-confidence: sort 0.3 is below 0.4",
        "low-confidence: sort 0.3 is below 0.4; low-confidence: kind 0.2 is below 0.4",
        "quality: too dark",
        "unknown: kind is none of the labels",
        "low-confidence: kinds 0.2 is below 0.4",
    ]
    table = result([("a", 0.1)] * 5, tag_status=["review"] * 5, tag_reason=reasons)
    found = dict(queue(table, only=False))
    assert found == {0: UNCERTAIN, 1: ASKED, 2: ASKED, 3: ASKED, 4: UNCERTAIN}
    assert set(dict(queue(table)).values()) == {ASKED}


@pytest.mark.parametrize("images", [["x.jpg", "x.jpg", "y.jpg"], [{"path": p, "bytes": b"1"} for p in ("x", "x", "y")]])
def test_a_picture_that_occurs_again_is_asked_about_once(images: list[Any]):
    table = result([("a", 0.2), ("b", 0.1), ("c", 0.3)], image=pa.array(images))
    assert rows_of(queue(table)) == [1, 2]


def test_embedded_images_and_nulls_are_never_the_same():
    table = result([("a", 0.2), ("a", 0.1)], image=pa.array([None, None], pa.string()))
    assert rows_of(queue(table)) == [1, 0]
    assert rows_of(queue(table, image_column=None)) == [1, 0]


def test_of_a_group_of_near_duplicates_the_closest_call_is_asked_about():
    table = result([("a", 0.4), ("b", 0.3), ("a", 0.2), ("c", 0.5)])
    groups = np.array([7, 7, -1, -1])
    assert rows_of(queue(table, groups=groups)) == [2, 1, 3]


def test_one_label_does_not_take_the_budget():
    rows = [("a", number / 1e5) for number in range(900)] + [("b", 0.5), ("c", 0.9)] * 10
    found = rows_of(queue(result(rows), budget=15))
    assert Counter(rows[row][0] for row in found[:15]) == {"a": 5, "b": 5, "c": 5}
    assert len(found) == 30  # with spare ones


ROWS = st.lists(st.tuples(st.sampled_from([*LABELS, None]), st.integers(0, 1000).map(lambda n: n / 2000)), max_size=60)


@settings(deadline=None, max_examples=60)
@given(rows=ROWS, batch=st.integers(1, 30))
def test_batches_do_not_matter_and_no_row_is_lost_or_repeated(rows: list[tuple[str | None, float]], batch: int):
    table = result(rows)
    whole = queue(table)
    assert queue(table, batch=batch) == whole
    assert sorted(rows_of(whole)) == [number for number, (label, _) in enumerate(rows) if label is not None]
    assert queue(table, batch=batch, budget=5) == whole[:10]


def test_margins_are_those_of_the_best_two():
    tops = [[("a", 0.5), ("b", 0.25)], None, [("a", 0.75)], [], [("a", 0.5), ("b", 0.5), ("c", 0.1)]]
    column = pa.array([None if top is None else [{"label": a, "confidence": b} for a, b in top] for top in tops], TOP_TYPE)
    assert margins(column).tolist() == [0.25, 0, 0.75, 0, 0]
    assert margins(column.slice(2)).tolist() == [0.75, 0, 0]


def test_labels_are_doubted_where_a_gate_has_failed():
    def gate(name: str, passed: bool, attribute: str | None = "kind") -> GateResult:
        return GateResult(gate=name, attribute=attribute, wanted=0.8, found=0.7, rows=9, interval=None, passed=passed, note=None)

    per_class = {label: {"f1": f1} for label, f1 in zip("abcdefgh", (0.9, 0.5, 0.8, 0.1, 0.2, 0.3, 0.4, 0.6), strict=True)}
    assert doubted_labels("kind", [gate("min_accuracy", False)], per_class) == {"d": 0.1, "e": 0.2, "f": 0.3, "g": 0.4, "b": 0.5}
    others = [gate("min_accuracy", True), gate("max_review_rate", False, None), gate("min_macro_f1", False, "sort")]
    assert doubted_labels("kind", others, per_class) == {}
