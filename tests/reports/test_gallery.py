"""The rows of a report: what sorting the whole result would choose, whatever the batches in which it is looked at."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tagger.reports import gallery
from tagger.reports.gallery import Gallery, GalleryChooser, Question

LABELS = ("hat", "bag", "shoe")
CELLS = ((0, 1), (1, 1), (2, 0))

ROWS = st.lists(
    st.fixed_dictionaries(
        {
            "kind_label": st.sampled_from([*LABELS, None]),
            "kind_confidence": st.floats(0, 1, width=32),
            "kind": st.sampled_from([*LABELS, None, "no label"]),
            "code": st.sampled_from(["missing", "corrupt"]),
        }
    ),
    max_size=120,
)


def choose(rows: Sequence[dict[str, Any]], batch: int, group_starts: Sequence[int] = ()) -> Gallery:
    chooser = GalleryChooser({"kind": Question(labels=LABELS, truth_column="kind", cells=CELLS)}, group_starts)
    columns = {
        "kind_label": [row["kind_label"] for row in rows],
        "kind_confidence": [None if row["kind_label"] is None else row["kind_confidence"] for row in rows],
        "kind_source": [None if row["kind_label"] is None else "clip" for row in rows],
        "kind": [row["kind"] for row in rows],
        "tag_status": ["error" if row["kind_label"] is None else "tagged" for row in rows],
        "tag_reason": [f"{row['code']}: no" if row["kind_label"] is None else None for row in rows],
    }
    types = {"kind_confidence": pa.float32()}
    table = pa.table({name: pa.array(values, types.get(name, pa.string())) for name, values in columns.items()})
    for part in table.to_batches(max_chunksize=batch):
        chooser.update(part)
    return chooser.result()


@settings(deadline=None, max_examples=40)
@given(rows=ROWS, batch=st.integers(1, 50))
def test_the_rows_are_those_that_sorting_all_would_choose(rows: list[dict[str, Any]], batch: int):
    found = choose(rows, batch).attributes["kind"]
    tagged = [number for number, row in enumerate(rows) if row["kind_label"] is not None]
    wrong = [n for n in tagged if rows[n]["kind"] in LABELS and rows[n]["kind"] != rows[n]["kind_label"]]
    assert found.mistakes == sorted(wrong, key=lambda n: (-rows[n]["kind_confidence"], n))[: gallery.MISTAKES]
    assert found.doubtful == sorted(tagged, key=lambda n: (rows[n]["kind_confidence"], n))[: gallery.DOUBTFUL]
    for label in LABELS:
        of_label = [n for n in tagged if rows[n]["kind_label"] == label]
        assert found.counts.get(label, 0) == len(of_label)
        assert set(found.by_label.get(label, [])) <= set(of_label)
        assert len(found.by_label.get(label, [])) == min(len(of_label), gallery.OF_A_LABEL)
    for truth, tag in CELLS:
        of_cell = [n for n in tagged if (rows[n]["kind"], rows[n]["kind_label"]) == (LABELS[truth], LABELS[tag])]
        assert set(found.cells[truth, tag]) <= set(of_cell)
        assert len(found.cells[truth, tag]) == min(len(of_cell), gallery.OF_A_CELL)


@settings(deadline=None, max_examples=20)
@given(rows=ROWS, batches=st.tuples(st.integers(1, 50), st.integers(1, 50)))
def test_the_batches_do_not_matter(rows: list[dict[str, Any]], batches: tuple[int, int]):
    assert choose(rows, batches[0]) == choose(rows, batches[1])


def test_error_rows_are_drawn_for_each_code_and_counted():
    rows = [
        {"kind_label": None, "kind_confidence": 0, "kind": None, "code": "rare" if n == 50 else "missing"} for n in range(100)
    ]
    found = choose(rows, 17)
    assert found.error_counts == {"missing": 99, "rare": 1}
    assert found.errors["rare"] == [50]
    assert len(found.errors["missing"]) == gallery.OF_A_CODE
    assert found.errors["missing"] != list(range(gallery.OF_A_CODE))


def test_random_rows_are_spread_over_the_result_or_come_from_few_row_groups():
    rows = [{"kind_label": LABELS[n % 3], "kind_confidence": 0.5, "kind": None, "code": ""} for n in range(3000)]
    drawn = [n for found in choose(rows, 500).attributes["kind"].by_label.values() for n in found]
    assert len({n // 100 for n in drawn}) > 12
    drawn = [n for found in choose(rows, 500, range(0, 3000, 100)).attributes["kind"].by_label.values() for n in found]
    assert len({n // 100 for n in drawn}) == 1


@pytest.mark.parametrize("labels", [240, 500])
def test_of_many_labels_the_commonest_are_shown(labels: int):
    names = [f"label {number}" for number in range(labels)]
    chooser = GalleryChooser({"a": Question(labels=names), "b": Question(labels=names)})
    values = pa.array([name for number, name in enumerate(names) for _ in range(1 + number % 2)])
    size = len(values)
    columns = {name: pa.array(["tagged"] * size) for name in ("tag_status", "tag_reason")}
    for name in ("a", "b"):
        columns |= {
            f"{name}_label": values,
            f"{name}_confidence": pa.array([0.5] * size),
            f"{name}_source": pa.array(["x"] * size),
        }
    chooser.update(pa.record_batch(columns))
    shown = chooser.result().attributes["a"].by_label
    assert list(shown) == (names[1::2] + names[::2])[: gallery.OF_ALL_LABELS // 2]
    assert {len(rows) for rows in shown.values()} == {1}
