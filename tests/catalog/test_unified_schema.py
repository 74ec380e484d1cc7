"""Parts of a catalogue that were written apart: one schema where nothing is lost, and a clear refusal where something is."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tagger.catalog.manifest import Manifest, open_manifest
from tagger.catalog.sandbox import read_all
from tagger.core.errors import ManifestError

DICTIONARY = pa.dictionary(pa.int32(), pa.string())
UTC = pa.timestamp("us", "UTC")


def write_parts(folder: Path, *parts: pa.Table) -> str:
    folder.mkdir(exist_ok=True)
    for number, part in enumerate(parts):
        pq.write_table(part, folder / f"part-{number}.parquet")
    return str(folder)


def parts_of(folder: Path, *columns: pa.Array) -> str:
    return write_parts(
        folder, *(pa.table({"image": pa.array(["x"] * len(column), pa.string()), "c": column}) for column in columns)
    )


def read(manifest: Manifest) -> pa.Table:
    return pa.concat_tables([table for _, table in manifest.read(manifest.shards())])


@pytest.mark.parametrize(
    ("first", "second", "unified"),
    [
        (pa.nulls(1), pa.array([1.5]), pa.float64()),
        (pa.array([True]), pa.nulls(1), pa.bool_()),
        (pa.nulls(1), pa.array([{"a": 1}]), pa.struct([("a", pa.int64())])),
        (pa.array(["x"]), pa.array(["y"], pa.large_string()), pa.large_string()),
        (pa.array(["x"], pa.string_view()), pa.array(["y"]), pa.large_string()),
        (pa.array(["x"]).dictionary_encode(), pa.array(["y"]), pa.string()),
        (pa.array(["x"], pa.large_string()), pa.array(["y"]).dictionary_encode(), pa.large_string()),
        (pa.array(["x"]).dictionary_encode(), pa.array(["y"]).dictionary_encode(), DICTIONARY),
        (pa.array([b"x"], pa.binary(1)), pa.array([b"yz"], pa.large_binary()), pa.large_binary()),
        (pa.array([1], pa.int8()), pa.array([2], pa.int64()), pa.int64()),
        (pa.array([1], pa.uint32()), pa.array([-2], pa.int32()), pa.int64()),
        (pa.array([2**53]), pa.array([0.5]), pa.float64()),  # pandas: the same column with and without gaps
        (pa.array([0.5], pa.float32()), pa.array([0.1]), pa.float64()),
        (pa.array([1], pa.timestamp("s")), pa.array([2], pa.timestamp("ns")), pa.timestamp("ns")),
        (pa.array([1], pa.timestamp("ms", "UTC")), pa.array([2], UTC), UTC),
        (pa.array([1], pa.decimal128(5, 1)), pa.array([2], pa.decimal128(9, 3)), pa.decimal128(9, 3)),
        (pa.array([[1]], pa.list_(pa.int8())), pa.array([[2]], pa.large_list(pa.int32())), pa.large_list(pa.int32())),
        (pa.array([[None]]), pa.array([["x"]]), pa.list_(pa.string())),
        (
            pa.array([[{"b": "x"}]]),
            pa.array([[{"a": 1, "b": None}]]),
            pa.list_(pa.struct([("b", pa.string()), ("a", pa.int64())])),
        ),
        (
            pa.StructArray.from_arrays([pa.array(["x"]).dictionary_encode()], fields=[pa.field("a", DICTIONARY, nullable=False)]),
            pa.array([{"b": 2}]),
            pa.struct([("a", pa.string()), ("b", pa.int64())]),
        ),
        (
            pa.array([[("k", 1)]], pa.map_(pa.string(), pa.int8())),
            pa.array([[("k", 2)]], pa.map_(pa.string(), pa.int16())),
            pa.map_(pa.string(), pa.int16()),
        ),
    ],
    ids=lambda value: str(value.type if isinstance(value, pa.Array) else value),
)
def test_types_are_unified_where_nothing_is_lost(tmp_path: Path, first: pa.Array, second: pa.Array, unified: pa.DataType):
    manifest = open_manifest(parts_of(tmp_path, first, second))
    assert manifest.schema.field("c").type == unified
    expected = pa.concat_arrays([first.cast(unified), second.cast(unified)])
    assert read(manifest)["c"].to_pylist() == expected.to_pylist()
    assert manifest.notes == ()


@pytest.mark.parametrize(
    ("first", "second"),
    [
        (pa.array(["1"]), pa.array([1])),
        (pa.array(["x"]), pa.array([b"x"])),
        (pa.array([b"x"], pa.binary(1)), pa.array(["x"])),
        (pa.array([True]), pa.array([1])),
        (pa.array([1], pa.decimal128(5, 1)), pa.array([0.5])),
        (pa.array([1], pa.timestamp("us")), pa.array([1], UTC)),
        (pa.array([1], pa.timestamp("us", "Europe/Rome")), pa.array([1], UTC)),
        (pa.array([1], pa.date32()), pa.array(["2024-01-01"])),
        (pa.array([{"a": "x"}]), pa.array([{"a": b"x"}])),
        (pa.array([{"a": "x"}]), pa.array(["x"])),
    ],
    ids=lambda value: str(value.type),
)
def test_types_that_would_lose_something_are_refused_with_both_named(tmp_path: Path, first: pa.Array, second: pa.Array):
    with pytest.raises(ManifestError) as caught:
        open_manifest(parts_of(tmp_path, first, second))
    assert str(caught.value) == (
        f"{tmp_path}/part-1.parquet: column c: expected {first.type} as in {tmp_path}/part-0.parquet, found {second.type}; write "
        "both with one type"
    )


def test_the_file_that_a_type_is_from_is_named(tmp_path: Path):
    name = parts_of(tmp_path, pa.nulls(1), pa.array(["x"]), pa.array([7]))
    with pytest.raises(
        ManifestError, match=f"part-2.parquet: column c: expected string as in {tmp_path}/part-1.parquet, found int64"
    ):
        open_manifest(name)


@pytest.mark.parametrize(
    ("first", "second", "found"),
    [
        (
            pa.array([2**53 + 1]),
            pa.array([0.5]),
            "expected int64 that is double in other files without loss, found: Integer value",
        ),
        (pa.array([2**63], pa.uint64()), pa.array([-1]), "expected uint64 that is int64 in other files without loss"),
        (pa.array([253402300799], pa.timestamp("s")), pa.array([1], pa.timestamp("ns")), "out of bounds timestamp: 253402300799"),
    ],
    ids=["beyond 2^53", "beyond 2^63", "the year 9999"],
)
def test_a_value_that_the_wider_type_cannot_hold_is_refused_before_a_run(
    tmp_path: Path,
    first: pa.Array,
    second: pa.Array,
    found: str,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
):
    name = parts_of(tmp_path, first, second)
    with pytest.raises(ManifestError, match=found):
        read(open_manifest(name))
    monkeypatch.setattr("tagger.catalog.sandbox._limit", lambda memory, seconds: None)
    assert read_all(name) == 65
    last = capfd.readouterr().out.splitlines()[-1]
    assert last.startswith(f"{tmp_path}/part-0.parquet: column c: ")
    assert found in last


def test_fields_are_matched_by_name_and_any_nullable_makes_a_nullable_one(tmp_path: Path):
    first = pa.table(
        {"image": ["a"], "n": [1], "brand": ["x"]},
        schema=pa.schema(
            [("image", pa.string()), pa.field("n", pa.int64(), False), pa.field("brand", pa.string(), False, {"note": "first"})],
            metadata={"pandas": "{}"},
        ),
    )
    second = pa.table({"brand": pa.array([None], pa.string()), "image": ["b"], "n": [2]}).replace_schema_metadata({"other": "x"})
    manifest = open_manifest(write_parts(tmp_path, first, second))
    assert [(field.name, field.nullable) for field in manifest.schema] == [("image", True), ("n", True), ("brand", True)]
    assert (manifest.schema.metadata, manifest.schema.field("brand").metadata) == ({b"pandas": b"{}"}, {b"note": b"first"})
    assert read(manifest).to_pylist() == [{"image": "a", "n": 1, "brand": "x"}, {"image": "b", "n": 2, "brand": None}]


def test_a_column_that_some_parts_lack_is_null_there_and_said(tmp_path: Path, caplog: pytest.LogCaptureFixture):
    colour = pa.schema([("image", pa.string()), pa.field("colour", pa.string(), nullable=False)])
    name = write_parts(
        tmp_path,
        pa.table({"image": ["a"], "brand": ["x"]}),
        pa.table({"image": ["b", "c"], "colour": ["red", "blue"]}, schema=colour),
        pa.table({"colour": ["green"], "image": ["d"]}),
        pa.table({"image": pa.array([], pa.string())}),
    )
    manifest = open_manifest(name)
    assert read(manifest).to_pydict() == {
        "image": ["a", "b", "c", "d"],
        "brand": ["x", None, None, None],
        "colour": [None, "red", "blue", "green"],
    }
    assert manifest.schema.field("colour").nullable
    assert list(manifest.notes) == caplog.messages
    assert caplog.messages == [
        f"{name}/part-0.parquet: no column colour, which other files have: null in 1 rows",
        f"{name}/part-1.parquet and 1 more files: no column brand, which other files have: null in 3 rows",
    ]
    assert [part.to_pylist() for part in manifest.column("colour") if len(part)] == [[None], ["red", "blue"], ["green"]]


def test_a_part_without_the_images_is_refused(tmp_path: Path):
    name = write_parts(tmp_path, pa.table({"image": ["a"], "n": [1]}), pa.table({"n": [2]}))
    with pytest.raises(ManifestError, match="part-1.parquet: expected the image column image as in other files, found none"):
        open_manifest(name)


def test_tags_of_an_earlier_run_in_some_parts_are_left_out(tmp_path: Path):
    tagged = pa.table({"image": ["b"], "x_label": ["old"]}).replace_schema_metadata({"tagger": '{"tag_columns": ["x_label"]}'})
    manifest = open_manifest(write_parts(tmp_path, pa.table({"image": ["a"]}), tagged))
    assert read(manifest).to_pylist() == [{"image": "a"}, {"image": "b"}]


def test_a_column_that_stands_twice_is_refused(tmp_path: Path):
    pq.write_table(pa.Table.from_arrays([pa.array(["a"]), pa.array(["b"])], ["image", "image"]), tmp_path / "m.parquet")
    with pytest.raises(ManifestError, match="m.parquet: expected every column once, found image repeated"):
        open_manifest(str(tmp_path / "m.parquet"))


def test_numbers_of_other_class_names_are_never_mixed(tmp_path: Path):
    def part(names: list[str]) -> pa.Table:
        features = {"info": {"features": {"label": {"names": names, "_type": "ClassLabel"}, "image": {"_type": "Image"}}}}
        return pa.table({"image": ["a"], "label": [0]}).replace_schema_metadata({"huggingface": json.dumps(features)})

    assert open_manifest(write_parts(tmp_path / "same", part(["dress", "shirt"]), part(["dress", "shirt"]))).rows == 2
    with pytest.raises(ManifestError, match=r"column label: expected the class names \['dress', 'shirt'\] of .*part-0.parquet"):
        open_manifest(write_parts(tmp_path / "other", part(["dress", "shirt"]), part(["shirt", "dress"])))


VALUES: dict[pa.DataType, st.SearchStrategy[Any]] = {
    pa.string(): st.text(st.characters(codec="utf-8"), max_size=3),
    pa.large_string(): st.text(st.characters(codec="utf-8"), max_size=3),
    DICTIONARY: st.sampled_from(["a", "b"]),
    pa.int8(): st.integers(-128, 127),
    pa.uint64(): st.integers(0, 2**64 - 1),
    pa.int64(): st.integers(-(2**63), 2**63 - 1),
    pa.float32(): st.floats(width=32, allow_nan=False),
    pa.float64(): st.floats(allow_nan=False),
    pa.timestamp("s"): st.datetimes(),
    pa.timestamp("ns"): st.datetimes(),
    pa.binary(): st.binary(max_size=3),
    pa.null(): st.none(),
}


@st.composite
def columns(draw: st.DrawFn) -> pa.Array:
    kind = draw(st.sampled_from(list(VALUES)))
    values = draw(st.lists(st.none() | VALUES[kind], max_size=4))
    if pa.types.is_timestamp(kind):
        values = [value and value.replace(year=2000 + value.year % 200, microsecond=0) for value in values]
    return pa.array(values, kind)


@given(parts=st.lists(columns(), min_size=1, max_size=4))
@settings(max_examples=100, deadline=None)
def test_a_catalogue_in_parts_is_refused_or_read_without_loss(tmp_path_factory: pytest.TempPathFactory, parts: list[pa.Array]):
    name = parts_of(tmp_path_factory.mktemp("parts"), *parts)
    try:
        found = [value for part in open_manifest(name).column("c") for value in part.to_pylist()]
    except ManifestError as error:
        assert ": column c: expected " in str(error)  # noqa: PT017
        return
    assert found == [value for part in parts for value in part.to_pylist()]
