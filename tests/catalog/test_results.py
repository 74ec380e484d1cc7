"""Parquet out: published whole or not at all."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tagger.catalog.results import ResultsWriter, open_results, tag_columns, write_text
from tagger.catalog.schemas import result_schema, tag_fields
from tagger.errors import ImageError, ManifestError
from tagger.types import Decision

SCHEMA = pa.schema([("row", pa.int64())])


def test_tags_land_on_their_rows():
    decision = Decision(
        top=np.array([[1, 0], [0, 1]]),
        confidence=np.array([[0.75, 0.25], [0.5, 0.5]], np.float32),
        review=(None, "low-confidence: kind 0.500 is below 0.6"),
        source="clip",
    )
    errors = {0: ImageError("missing", "no file x"), 2: ImageError("corrupt", "y" * 1000)}
    columns = tag_columns(4, np.array([1, 3]), {"kind": (("hat", "bag"), decision)}, errors)
    table = pa.table(columns, schema=pa.schema(tag_fields(["kind"])))
    assert table.slice(0, 2).to_pylist() == [
        {
            "kind_label": None,
            "kind_confidence": None,
            "kind_top": None,
            "kind_source": None,
            "tag_status": "error",
            "tag_reason": "missing: no file x",
        },
        {
            "kind_label": "bag",
            "kind_confidence": 0.75,
            "kind_top": [{"label": "bag", "confidence": 0.75}, {"label": "hat", "confidence": 0.25}],
            "kind_source": "clip",
            "tag_status": "tagged",
            "tag_reason": None,
        },
    ]
    assert table["tag_status"].to_pylist() == ["error", "tagged", "error", "review"]
    assert table["tag_reason"][3].as_py() == "low-confidence: kind 0.500 is below 0.6"
    assert len(table["tag_reason"][2].as_py()) == 300


def test_nothing_is_published_before_the_commit(tmp_path: Path):
    output = tmp_path / "out.parquet"
    with ResultsWriter(output, tmp_path, SCHEMA) as writer:
        for start in range(0, 30, 10):
            writer.write(pa.table({"row": list(range(start, start + 10))}))
        assert not output.exists()
        writer.commit()
    assert pq.read_table(output)["row"].to_pylist() == list(range(30))
    assert [path.name for path in tmp_path.iterdir()] == ["out.parquet"]


def test_a_failed_run_leaves_the_earlier_result(tmp_path: Path):
    output = tmp_path / "out.parquet"
    output.write_text("earlier")

    def fail() -> None:
        with ResultsWriter(output, tmp_path, SCHEMA) as writer:
            writer.write(pa.table({"row": [1]}))
            raise RuntimeError("on the way")

    with pytest.raises(RuntimeError, match="on the way"):
        fail()
    assert output.read_text() == "earlier"
    assert [path.name for path in tmp_path.iterdir()] == ["out.parquet"]


def test_the_permissions_of_the_replaced_file_are_kept(tmp_path: Path):
    output = tmp_path / "out.parquet"
    output.touch()
    output.chmod(0o640)
    with ResultsWriter(output, tmp_path, SCHEMA) as writer:
        writer.commit()
    assert output.stat().st_mode & 0o777 == 0o640


def test_small_files_are_replaced_whole(tmp_path: Path):
    path = tmp_path / "summary.json"
    write_text(path, "one")
    write_text(path, "two")
    assert path.read_text() == "two"
    assert [path.name for path in tmp_path.iterdir()] == ["summary.json"]


def test_only_results_are_opened_as_results(tmp_path: Path):
    path = tmp_path / "other.parquet"
    pq.write_table(pa.table({"row": [1]}), path)
    with pytest.raises(ManifestError, match="expected results of tagger, found a Parquet file without them"):
        open_results(path)
    with pytest.raises(ManifestError, match="expected a readable Parquet file"):
        open_results(tmp_path / "none.parquet")


def test_the_manifests_metadata_stays_beside_taggers():
    manifest = pa.schema([pa.field("row", pa.int64(), metadata={"a": "b"})], metadata={"huggingface": "{}"})
    schema = result_schema(manifest, ["kind"], {"version": "1"})
    assert schema.metadata[b"huggingface"] == b"{}"
    assert schema.field("row").metadata == {b"a": b"b"}
    assert schema.names[1:] == ["kind_label", "kind_confidence", "kind_top", "kind_source", "tag_status", "tag_reason"]
