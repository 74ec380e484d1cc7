"""Rows by their numbers: the same as reading all and taking these."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tagger.catalog.row_lookup import read_rows


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory):
    """3,000 rows in groups of 1,300, with a struct whose parts lie in columns of their own, and a name with a dot."""
    table = pa.table(
        {
            "n": range(3000),
            "image": [{"bytes": str(n).encode(), "path": None if n % 7 else f"{n}.jpg"} for n in range(3000)],
            "a.b": [f"x{n}" for n in range(3000)],
            "unread": ["?"] * 3000,
        }
    )
    path: Path = tmp_path_factory.mktemp("rows") / "table.parquet"
    pq.write_table(table, path, row_group_size=1300)
    with pq.ParquetFile(path) as opened:
        yield table, opened


@settings(deadline=None, max_examples=30)
@given(rows=st.lists(st.integers(0, 2999), max_size=40))
def test_rows_come_in_the_order_in_which_they_are_named(file, rows):
    table, opened = file
    columns = ["image", "n", "a.b"]
    assert read_rows(opened, rows, columns).to_pylist() == table.select(columns).take(pa.array(rows, pa.int64())).to_pylist()


def test_of_a_struct_a_part_can_be_read_alone(file):
    assert read_rows(file[1], [1400, 7], ["image.path"]).to_pylist() == [
        {"image": {"path": "1400.jpg"}},
        {"image": {"path": "7.jpg"}},
    ]


def test_a_row_that_is_not_there_is_an_error(file):
    with pytest.raises(IndexError, match="expected rows from 0 to 2999, found 5 to 3000"):
        read_rows(file[1], [5, 3000], ["n"])
