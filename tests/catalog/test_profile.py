"""What a manifest holds: every row is counted once, and the drawn references are its own."""

from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from hypothesis import given, settings
from hypothesis import strategies as st

from tagger.catalog.manifest import open_manifest
from tagger.catalog.profile import Balance, References, read_balance, read_references

PATHS = st.sampled_from(["a.png", "b/c.jpg", "https://x/1.jpg", "https://x/2.jpg", "s3://b/1", "odd://x"])
STRUCTS = pa.struct([("bytes", pa.binary()), ("path", pa.string())])


def references(column: pa.Array, count: int = 4) -> tuple[References, list[Any]]:
    with TemporaryDirectory() as folder:
        path = Path(folder) / "manifest.parquet"
        pq.write_table(pa.table({"image": column}), path, row_group_size=3)
        return read_references(open_manifest(str(path)), count)


@given(values=st.lists(st.none() | PATHS, min_size=1).filter(any), count=st.integers(1, 9))
@settings(max_examples=50, deadline=None)
def test_every_reference_is_counted_once(values: list[str | None], count: int):
    found, drawn = references(pa.array(values, pa.string()), count)
    given = [value for value in values if value]
    assert sum(found.kinds.values()) == len(given)
    assert found.nulls == len(values) - len(given)
    assert found.repeated == len(given) - len(set(given))
    assert len(drawn) == min(count, len(values))
    assert [ref.path for ref in drawn] == [values[ref.row] for ref in drawn]


def test_references_are_told_apart_by_how_they_look():
    found, _ = references(pa.array(["a.png", "https://x/1.jpg", None, "b.png", "a.png"]))
    assert found == References(kinds={"paths": 3, "https://": 1}, nulls=1, repeated=1)


def test_embedded_images_are_no_paths():
    found, drawn = references(pa.array([b"\xff1", None, b"\xff1"]), 3)
    assert found == References(kinds={"embedded images": 2}, nulls=1, repeated=0)
    assert [ref.data for ref in drawn] == [b"\xff1", None, b"\xff1"]
    values = [{"bytes": b"1", "path": "a.png"}, {"bytes": None, "path": "a.png"}, None, {"bytes": None, "path": None}]
    found, drawn = references(pa.array(values, STRUCTS))
    assert found == References(kinds={"embedded images": 1, "paths": 1}, nulls=2, repeated=0)
    assert [(ref.data, ref.path) for ref in drawn] == [(b"1", "a.png"), (None, "a.png"), (None, None), (None, None)]


def test_a_blank_reference_is_none_and_space_around_a_url_is_no_other_kind():
    found, drawn = references(pa.array(["a.png", "", " \u00a0\r\n", None, " https://x/1.jpg\n"]), 5)
    assert found == References(kinds={"paths": 1, "https://": 1}, nulls=3, repeated=0)
    assert [ref.path for ref in drawn] == ["a.png", "", " \u00a0\r\n", None, "https://x/1.jpg"]


def test_paths_that_were_written_as_binary_are_paths():
    found, drawn = references(pa.array([b"a.png", None, b"", "größe.png".encode(), b"a.png"]), 5)
    assert found == References(kinds={"paths": 3}, nulls=2, repeated=1)
    assert [(ref.path, ref.data) for ref in drawn] == [
        ("a.png", None),
        (None, None),
        ("", None),
        ("größe.png", None),
        ("a.png", None),
    ]


def test_a_balance_has_every_row_once(tmp_path: Path):
    path = tmp_path / "manifest.parquet"
    kinds = pa.array(["dress", "hat", None, "Dress ", "", "hat", "bag", "DRESS"]).dictionary_encode()
    pq.write_table(pa.table({"image": ["a"] * 8, "kind": kinds}), path)
    found = read_balance(open_manifest(str(path)), "kind", ["shirt", "dress"])
    assert found == Balance(
        labels={"shirt": 0, "dress": 3},
        without=2,
        folded_rows=2,
        folded={"Dress ": 1, "DRESS": 1},
        other_rows=3,
        others={"hat": 2, "bag": 1},
    )
