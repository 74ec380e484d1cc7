"""Slices of a result by the values of manifest columns."""

from __future__ import annotations

from datetime import date
from decimal import Decimal
from typing import Any

import pyarrow as pa
import pytest

from tagger.core.errors import UsageError
from tagger.evaluation import slices
from tagger.evaluation.slices import Slicer, SliceTable

KIND = {"kind": ("truth", ("hat", "bag"))}


def result(brand: Any, truth: Any, label: list[str | None], status: list[str] | None = None) -> pa.Table:
    """Rows of a result, as far as they are sliced."""
    found = status or ["error" if one is None else "tagged" for one in label]
    columns = {"brand": brand, "truth": truth, "kind_label": pa.array(label, pa.string()), "tag_status": found}
    return pa.table(columns)


def sliced(table: pa.Table, attributes: Any = KIND, columns: tuple[str, ...] = ("brand",), cut: int = 7) -> list[SliceTable]:
    slicer = Slicer(table.schema, columns, attributes)
    for start in range(0, len(table), cut):
        slicer.update(table[start : start + cut])
    return slicer.result()


def test_the_worst_is_first_and_small_groups_come_after_marked():
    brand = ["good"] * 40 + ["bad"] * 50 + ["tiny"] * 3 + [None] * 2
    truth = pa.array(["hat"] * 90 + ["hat", "cape", None] + [None, "bag"], pa.string())
    label = ["hat"] * 40 + ["hat"] * 30 + ["bag"] * 15 + [None] * 5 + ["bag", "hat", "hat"] + ["bag", "bag"]
    (table,) = sliced(result(brand, truth, label))
    assert (table.column, table.attribute, table.others) == ("brand", "kind", None)
    found = [(one.value, one.rows, one.errors, one.labelled_rows, one.accuracy, one.small) for one in table.slices]
    assert found == [
        ("bad", 50, 5, 45, 30 / 45, False),
        ("good", 40, 0, 40, 1.0, False),
        ("tiny", 3, 0, 1, 0.0, True),
        (None, 2, 0, 1, 1.0, True),
    ]
    assert table.slices[0].accuracy_interval == pytest.approx((0.5207, 0.7864), abs=1e-4)


def test_without_truth_errors_and_review_tell():
    brand, status = ["a"] * 30 + ["b"] * 40, ["tagged"] * 29 + ["error"] + ["tagged"] * 20 + ["review"] * 15 + ["error"] * 5
    label = [None if one == "error" else "hat" for one in status]
    (table,) = sliced(result(brand, pa.nulls(70), label, status), {})
    assert table.attribute is None
    found = [(one.value, one.rows, one.errors, one.review, one.labelled_rows, one.accuracy, one.small) for one in table.slices]
    assert found == [("b", 40, 5, 15, 0, None, False), ("a", 30, 1, 0, 0, None, False)]


def test_each_attribute_and_column_has_a_table_of_its_own():
    table = result(["a", "b"], ["hat", "bag"], ["hat", "hat"])
    table = table.append_column("sort_label", pa.array(["x", "y"])).append_column("season", pa.array([1, 1]))
    found = sliced(table, {**KIND, "sort": ("season", ("1", "2"))}, ("brand", "season", "brand"))
    names = [("brand", "kind"), ("brand", "sort"), ("season", "kind"), ("season", "sort")]
    assert [(one.column, one.attribute) for one in found] == names
    assert [(one.value, one.accuracy) for one in found[2].slices] == [("1", 0.5)]
    assert [one.accuracy for one in found[1].slices] == [0.0, 0.0]


def test_values_beyond_the_first_ones_are_counted_as_others(monkeypatch):
    monkeypatch.setattr(slices, "MAX_VALUES", 3)
    brand = [f"brand {number}" for number in range(20)] + ["brand 1"] * 4
    (table,) = sliced(result(brand, ["hat"] * 24, ["hat"] * 12 + ["bag"] * 12))
    assert sum(one.rows for one in table.slices) + table.others.rows == 24
    assert len(table.slices) == 3
    assert next(one.rows for one in table.slices if one.value == "brand 1") == 5
    assert (table.others.labelled_rows, table.others.accuracy) == (17, 9 / 17)


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        (pa.array(["x", "y"]).dictionary_encode(), ["x", "y"]),
        (pa.array([1, 2]), ["1", "2"]),
        (pa.array([True, False]), ["false", "true"]),
        (pa.array([date(2026, 11, 25), None]), [None, "2026-11-25"]),
        (pa.array([Decimal("1.50"), Decimal("2.00")]), ["1.50", "2.00"]),
        (pa.array(["x", "y"], pa.string_view()), ["x", "y"]),
        (pa.nulls(2), [None]),
    ],
    ids=lambda value: str(value.type) if isinstance(value, pa.Array) else None,
)
def test_columns_of_all_plain_types_are_sliced(values: pa.Array, expected: list[str | None]):
    (table,) = sliced(result(values, ["hat", "hat"], ["hat", "hat"]), cut=1)
    assert [one.value for one in table.slices] == expected


@pytest.mark.parametrize("values", [pa.array([[1], [2]]), pa.array([b"x", b"y"]), pa.array([{"path": "x"}, {"path": "y"}])])
def test_a_column_without_plain_values_is_refused(values: pa.Array):
    with pytest.raises(UsageError, match="--slice: expected a column of texts, numbers or dates, found brand of "):
        sliced(result(values, ["hat", "hat"], ["hat", "hat"]))


def test_a_column_that_is_not_there_is_named():
    with pytest.raises(UsageError, match="found season; it has brand, truth, kind_label, tag_status$"):
        sliced(result(["a"], ["hat"], ["hat"]), columns=("season",))
