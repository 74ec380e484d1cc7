"""Parquet in: found, checked, cut into shards, streamed; and every file that cannot be."""

from __future__ import annotations

import dataclasses
import os
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tagger.catalog.manifest import Manifest, open_manifest
from tagger.core.errors import ManifestError

STRUCT = pa.struct([("bytes", pa.binary()), ("path", pa.string())])


def write(path: Path, table: pa.Table, **options: object) -> str:
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(table, path, **options)
    return str(path)


def read(manifest: Manifest, limit: int | None = None) -> pa.Table:
    return pa.concat_tables([table for _, table in manifest.read(manifest.shards(limit))] or [manifest.schema.empty_table()])


@pytest.mark.parametrize("name", ["image_path", "image", "path", "file_name"])
def test_the_image_column_is_found_by_name(tmp_path: Path, name: str):
    assert open_manifest(write(tmp_path / "m.parquet", pa.table({"id": [1], name: ["a.png"]}))).image_column == name


def test_only_a_usable_column_is_found(tmp_path: Path):
    table = pa.table({"path": [7], "image": pa.array([{"bytes": b"x", "path": None}], STRUCT)})
    assert open_manifest(write(tmp_path / "m.parquet", table)).image_column == "image"


@pytest.mark.parametrize(
    "array",
    [
        pa.array(["a", None]),
        pa.array(["a", None], pa.large_string()),
        pa.array(["a", None], pa.string_view()),
        pa.array(["a", None]).dictionary_encode(),
    ],
    ids=lambda array: str(array.type),
)
def test_paths_of_every_string_type_become_references(tmp_path: Path, array: pa.Array):
    manifest = open_manifest(write(tmp_path / "m.parquet", pa.table({"image": array})))
    refs = [ref for shard, table in manifest.read(manifest.shards()) for ref in manifest.image_refs(table, shard.start)]
    assert [(ref.row, ref.path, ref.data) for ref in refs] == [(0, "a", None), (1, None, None)]


@pytest.mark.parametrize("kind", [pa.binary(), pa.large_binary(), pa.binary_view()], ids=str)
def test_embedded_bytes_become_references(tmp_path: Path, kind: pa.DataType):
    manifest = open_manifest(write(tmp_path / "m.parquet", pa.table({"image": pa.array([b"\x89PNG", None], kind)})))
    refs = [ref for shard, table in manifest.read(manifest.shards()) for ref in manifest.image_refs(table, shard.start)]
    assert [(ref.path, ref.data) for ref in refs] == [(None, b"\x89PNG"), (None, None)]


def test_the_struct_of_hugging_face_datasets_becomes_references(tmp_path: Path):
    values = [{"bytes": b"x", "path": "a"}, {"bytes": None, "path": "b"}, None]
    manifest = open_manifest(write(tmp_path / "m.parquet", pa.table({"image": pa.array(values, STRUCT)})))
    refs = [ref for shard, table in manifest.read(manifest.shards()) for ref in manifest.image_refs(table, shard.start)]
    assert [(ref.path, ref.data) for ref in refs] == [("a", b"x"), ("b", None), (None, None)]


def test_a_folder_and_a_glob_are_read_in_order_of_name(tmp_path: Path):
    for name in ("b", "a", "c"):
        write(tmp_path / "parts" / f"{name}.parquet", pa.table({"image": [f"{name}.png"]}))
    write(tmp_path / "parts" / "_hidden.parquet", pa.table({"other": [1]}))
    assert read(open_manifest(str(tmp_path / "parts")))["image"].to_pylist() == ["a.png", "b.png", "c.png"]
    assert read(open_manifest(str(tmp_path / "parts" / "[ab].parquet")))["image"].to_pylist() == ["a.png", "b.png"]


def test_columns_of_every_type_pass_through_with_their_metadata(tmp_path: Path):
    fields = {
        "image": pa.array(["a", "b"]),
        "with.dot": pa.array([1, 2]),
        "list": pa.array([[1.5], None], pa.list_(pa.float64())),
        "map": pa.array([[("k", 1)], []], pa.map_(pa.string(), pa.int8())),
        "decimal": pa.array([1, None], pa.decimal128(9, 2)),
        "time": pa.array([0, 1], pa.timestamp("us", tz="Europe/Rome")),
        "category": pa.array(["x", "y"]).dictionary_encode(),
        "nothing": pa.nulls(2),
        "fixed": pa.array([b"ab", b"cd"], pa.binary(2)),
        "nested": pa.array([{"a": {"b": [1]}}, None]),
        "half": pa.array(np.array([1, 2], np.float16)),
    }
    schema = pa.schema(
        [pa.field(name, array.type, metadata={"note": f"on {name}"}) for name, array in fields.items()],
        metadata={"huggingface": '{"info": 1}', "pandas": "{}"},
    )
    table = pa.Table.from_arrays(list(fields.values()), schema=schema)
    again = read(open_manifest(write(tmp_path / "m.parquet", table)))
    assert again.equals(table)
    assert again.schema.metadata == schema.metadata
    assert again.schema.field("map").metadata[b"note"] == b"on map"


@given(
    files=st.lists(st.lists(st.integers(0, 300), max_size=4), min_size=1, max_size=4),
    limit=st.none() | st.integers(0, 900),
    chosen=st.sets(st.integers(0, 20)),
)
@settings(max_examples=60, deadline=None)
def test_shards_hold_every_row_once_and_in_order(tmp_path_factory: pytest.TempPathFactory, files, limit, chosen):
    """files: for each file its row groups' sizes; shards are of 64 rows because the rows are wide."""
    folder, row = tmp_path_factory.mktemp("shards"), 0
    for number, groups in enumerate(files):
        schema = pa.schema([("image", pa.string()), ("row", pa.int64())])
        with pq.ParquetWriter(folder / f"{number}.parquet", schema) as writer:
            for size in groups:
                writer.write_table(pa.table({"image": ["x"] * size, "row": list(range(row, row + size))}, schema=schema))
                row += size
    manifest = dataclasses.replace(open_manifest(str(folder)), bytes_per_row=1 << 30)
    wanted = row if limit is None else min(limit, row)
    shards = list(manifest.read(manifest.shards(limit)))
    assert [value for _, table in shards for value in table["row"].to_pylist()] == list(range(wanted))
    assert [(shard.number, shard.start, shard.stop) for shard, _ in shards] == [
        (number, start, min(start + 64, wanted)) for number, start in enumerate(range(0, wanted, 64))
    ]
    some = [shard for shard in manifest.shards(limit) if shard.number in chosen]
    assert [(shard, table["row"].to_pylist()) for shard, table in manifest.read(some)] == [
        (shard, list(range(shard.start, shard.stop))) for shard in some
    ]


def test_some_of_the_shards_hold_their_own_rows(tmp_path: Path):
    table = pa.table({"image": ["x"] * 300, "row": range(300)})
    manifest = dataclasses.replace(open_manifest(write(tmp_path / "m.parquet", table, row_group_size=70)), bytes_per_row=1 << 30)
    wanted = [shard for shard in manifest.shards() if shard.number in (1, 4)]
    assert [table["row"].to_pylist() for _, table in manifest.read(wanted)] == [list(range(64, 128)), list(range(256, 300))]


def test_the_content_hash_tells_manifests_apart(tmp_path: Path):
    first = open_manifest(write(tmp_path / "a.parquet", pa.table({"image": ["x"]})))
    same = open_manifest(write(tmp_path / "b.parquet", pa.table({"image": ["x"]})))
    other = open_manifest(write(tmp_path / "c.parquet", pa.table({"image": ["y"]})))
    assert first.content_hash() == same.content_hash() != other.content_hash()


def test_tags_of_an_earlier_run_are_not_part_of_the_manifest(tmp_path: Path):
    table = pa.table({"image": ["a"], "x_label": ["old"], "mine": [1]})
    tagged = table.replace_schema_metadata({"tagger": '{"tag_columns": ["x_label"]}'})
    manifest = open_manifest(write(tmp_path / "m.parquet", tagged))
    assert manifest.schema.names == ["image", "mine"]
    assert read(manifest).to_pylist() == [{"image": "a", "mine": 1}]


@pytest.mark.parametrize("values", [["a", "b", "a"], [1, 2, 1], [None, "b", None]], ids=str)
def test_repeated_ids_are_found(tmp_path: Path, values: list[object]):
    name = write(tmp_path / "m.parquet", pa.table({"image": ["x"] * 3, "id": values}))
    with pytest.raises(ManifestError, match=f"found '{values[0]}' in rows 0 and 2"):
        open_manifest(name, id_column="id")


def test_different_ids_are_fine(tmp_path: Path):
    name = write(tmp_path / "m.parquet", pa.table({"image": ["x"] * 20_000, "id": [f"P{n}" for n in range(20_000)]}))
    assert open_manifest(name, id_column="id").rows == 20_000


@pytest.mark.parametrize(("column", "words"), [("none", "found image, id"), ("id", "found list<element: int64>")])
def test_an_id_column_must_exist_and_be_comparable(tmp_path: Path, column: str, words: str):
    name = write(tmp_path / "m.parquet", pa.table({"image": ["x"], "id": [[1]]}))
    with pytest.raises(ManifestError, match=words):
        open_manifest(name, id_column=column)


def test_malformed_files_are_refused_before_a_model_is_loaded(shared_data: Path):
    files = sorted((shared_data / "bad-parquet").glob("*.parquet"))
    assert len(files) == 8
    for path in files:
        with pytest.raises(ManifestError, match="expected|no image column") as caught:
            open_manifest(str(path))
        assert str(path) in str(caught.value)
        assert "\n" not in str(caught.value)


def test_a_malformed_column_is_an_error_of_the_manifest_when_it_is_read(shared_data: Path):
    path = shared_data / "bad-parquet" / "ARROW-RS-GH-6229-DICTHEADER.parquet"
    manifest = open_manifest(str(path), image_column="name")
    with pytest.raises(ManifestError, match="expected a readable Parquet file"):
        read(manifest)


def test_a_file_cut_off_is_refused(tmp_path: Path):
    name = write(tmp_path / "m.parquet", pa.table({"image": ["a"] * 1000}))
    os.truncate(name, Path(name).stat().st_size // 2)
    with pytest.raises(ManifestError, match="expected a readable Parquet file"):
        open_manifest(name)


def test_an_empty_manifest_has_no_shards(tmp_path: Path):
    manifest = open_manifest(write(tmp_path / "m.parquet", pa.table({"image": pa.array([], pa.string())})))
    assert (manifest.rows, list(manifest.read(manifest.shards()))) == (0, [])
