"""Parquet out: published whole or not at all."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tagger.catalog.manifest import Shard
from tagger.catalog.results import Results, open_results
from tagger.catalog.schemas import result_schema, tag_fields
from tagger.catalog.tags import status_counts, tag_columns
from tagger.core.errors import ImageError, ManifestError, StoppedError
from tagger.core.types import Decision, LabelSets

SCHEMA = pa.schema([("row", pa.int64())])
SHARDS = (Shard(0, 0, 10), Shard(1, 10, 20), Shard(2, 20, 25))


def test_tags_land_on_their_rows():
    decision = Decision(
        top=np.array([[1, 0], [0, 1]]),
        confidence=np.array([[0.75, 0.25], [0.5, 0.5]], np.float32),
        review=(None, "low-confidence: kind 0.500 is below 0.6"),
        source=np.array(["clip", "clip"]),
    )
    errors = {0: ImageError("missing", "no file x"), 2: ImageError("corrupt", "y" * 1000)}
    columns = tag_columns(4, np.array([1, 3]), {"kind": (("hat", "bag"), decision)}, errors, {3: "1 x 1 pixels"})
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
    assert table["tag_reason"][3].as_py() == "quality: 1 x 1 pixels; low-confidence: kind 0.500 is below 0.6"
    assert len(table["tag_reason"][2].as_py()) == 300
    assert status_counts(table) == {"tagged": 1, "review": 1, "missing": 1, "corrupt": 1}


def test_sets_land_on_their_rows():
    decision = Decision(
        top=np.array([[1, 0], [0, 1]]),
        confidence=np.array([[0.75, 0.25], [0.5, 0.5]], np.float32),
        review=(None, None),
        source=np.array(["clip", "clip"]),
        sets=LabelSets(labels=np.array([1, 0, 1]), sizes=np.array([1, 2])),
    )
    errors = {0: ImageError("missing", "no file x"), 3: ImageError("corrupt", "y")}
    columns = tag_columns(4, np.array([1, 2]), {"kind": (("hat", "bag"), decision)}, errors, {})
    table = pa.table(columns, schema=pa.schema(tag_fields(["kind"], ["kind"])))
    assert table["kind_set"].to_pylist() == [None, ["bag"], ["hat", "bag"], None]
    assert table["kind_label"].to_pylist() == [None, "bag", "hat", None]


def test_results_without_the_sets_that_they_speak_of_are_none(tmp_path: Path):
    described = {"attributes": [{"name": "kind", "labels": ["hat"], "truth_column": None, "prediction_sets": 0.9}]}
    schema = result_schema(pa.schema([]), ["kind"], described, ["kind"])
    pq.write_table(schema.empty_table(), tmp_path / "whole.parquet")
    open_results(tmp_path / "whole.parquet").close()
    for change in (
        lambda table: table.drop_columns(["kind_set"]),
        lambda table: table.set_column(3, "kind_set", pa.array([], pa.list_(pa.int64()))),
        lambda table: table.append_column("kind_set", table["kind_set"]),
    ):
        pq.write_table(change(schema.empty_table()), tmp_path / "other.parquet")
        with pytest.raises(ManifestError, match="expected a column kind_set of sets, as its metadata says, found none"):
            open_results(tmp_path / "other.parquet")
    described["attributes"][0]["prediction_sets"] = "most"
    pq.write_table(result_schema(pa.schema([]), ["kind"], described, ["kind"]).empty_table(), tmp_path / "hostile.parquet")
    with pytest.raises(ManifestError, match="expected results of tagger"):
        open_results(tmp_path / "hostile.parquet")


def results(folder: Path, **job: str) -> Results:
    return Results(folder / "out.parquet", folder, SCHEMA, {"manifest": "a", "weights": "b", **job})


def write_shards(results: Results, shards: Sequence[Shard]) -> None:
    for shard in shards:
        results.write(shard, pa.table({"row": list(range(shard.start, shard.stop))}))


def published(folder: Path) -> list[int]:
    assert sorted(path.name for path in folder.iterdir()) == ["out.parquet"]
    return pq.read_table(folder / "out.parquet")["row"].to_pylist()


def test_a_fault_of_the_caller_is_not_taken_for_trouble_with_the_disk(tmp_path: Path):
    job = results(tmp_path)
    write_shards(job, SHARDS)

    def accept() -> bool:
        raise OSError("a fault")

    with pytest.raises(OSError, match="^a fault$"):
        list(job.publish(SHARDS, accept))
    assert not (tmp_path / "out.parquet").exists()


def test_nothing_is_published_before_the_last_part_is_joined(tmp_path: Path):
    job = results(tmp_path)
    write_shards(job, SHARDS)
    for _ in job.publish(SHARDS):
        assert not (tmp_path / "out.parquet").exists()
    assert published(tmp_path) == list(range(25))


def test_a_later_run_of_the_job_finds_the_parts(tmp_path: Path):
    write_shards(results(tmp_path), SHARDS[1:])
    job = results(tmp_path)
    assert [job.is_done(shard) for shard in SHARDS] == [False, True, True]
    write_shards(job, SHARDS[:1])
    assert [table.num_rows for table in job.publish(SHARDS)] == [10, 10, 5]
    assert published(tmp_path) == list(range(25))


def test_another_job_starts_over_and_says_what_changed(tmp_path: Path, caplog: pytest.LogCaptureFixture):
    write_shards(results(tmp_path), SHARDS)
    job = results(tmp_path, weights="c")
    assert [job.is_done(shard) for shard in SHARDS] == [False, False, False]
    assert caplog.messages == [f"{tmp_path / 'out.parquet'}: starting over, not continuing an interrupted run: weights changed"]


@pytest.mark.parametrize("size", [0, 4, 100, -1])
def test_a_torn_part_is_not_done(tmp_path: Path, size: int):
    write_shards(results(tmp_path), SHARDS)
    (part,) = (tmp_path / "parts").glob("*-000001.parquet")
    os.truncate(part, size if size >= 0 else part.stat().st_size - 1)
    assert [results(tmp_path).is_done(shard) for shard in SHARDS] == [True, False, True]


def test_a_part_of_other_rows_is_not_done(tmp_path: Path):
    write_shards(results(tmp_path), SHARDS)
    assert not results(tmp_path).is_done(Shard(1, 10, 19))


def test_a_run_that_died_after_publishing_is_not_continued(tmp_path: Path):
    job = results(tmp_path)
    write_shards(job, SHARDS)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("tagger.catalog.results.discard_parts", lambda _: None)  # it died before tidying up
        list(job.publish(SHARDS))
    assert (tmp_path / "parts").exists()
    assert not results(tmp_path).is_done(SHARDS[0])


def test_a_failed_run_leaves_the_earlier_result_and_its_parts(tmp_path: Path):
    (tmp_path / "out.parquet").write_text("earlier")
    job = results(tmp_path)
    write_shards(job, SHARDS[:2])
    with pytest.raises(StoppedError, match="expected rows 20 to 24 of the results, found: "):
        list(job.publish(SHARDS))
    assert (tmp_path / "out.parquet").read_text() == "earlier"
    assert [results(tmp_path).is_done(shard) for shard in SHARDS] == [True, True, False]


def test_a_damaged_part_is_named_and_nothing_is_published(tmp_path: Path):
    job = results(tmp_path)
    write_shards(job, SHARDS)
    (part,) = (tmp_path / "parts").glob("*-000001.parquet")
    content = bytearray(part.read_bytes())
    content[8:40] = bytes(32)  # in the first page: the footer is whole
    part.write_bytes(content)
    with pytest.raises(StoppedError, match=f"^{part}: expected rows 10 to 19 of the results, found: .*; nothing was published; "):
        list(job.publish(SHARDS))
    assert not (tmp_path / "out.parquet").exists()
    assert list((tmp_path / "parts").glob("*.tmp")) == []


def test_two_runs_that_no_lock_kept_apart_publish_one_whole_result(tmp_path: Path):
    first, second = results(tmp_path), results(tmp_path)
    write_shards(first, SHARDS)
    publishing = second.publish(SHARDS)
    next(publishing)
    assert sum(table.num_rows for table in first.publish(SHARDS)) == 25
    with pytest.raises(StoppedError, match="expected rows 10 to 19"):
        list(publishing)
    assert published(tmp_path) == list(range(25))


def test_a_run_that_died_before_it_described_its_job_is_not_mentioned(tmp_path: Path, caplog: pytest.LogCaptureFixture):
    (tmp_path / "parts").mkdir()
    (tmp_path / "parts" / "0123.tmp").touch()
    list(results(tmp_path).publish([]))
    assert caplog.messages == []
    assert published(tmp_path) == []


@pytest.mark.parametrize("description", ["", "{", "[]", "3", "\x00" * 100])
def test_an_unreadable_description_is_another_job(tmp_path: Path, description: str, caplog: pytest.LogCaptureFixture):
    write_shards(results(tmp_path), SHARDS)
    (tmp_path / "parts" / "job.json").write_text(description)
    assert not results(tmp_path).is_done(SHARDS[0])
    assert caplog.messages == [
        f"{tmp_path / 'out.parquet'}: starting over, not continuing an interrupted run: its description changed"
    ]


def test_the_permissions_of_the_replaced_file_are_kept(tmp_path: Path):
    (tmp_path / "out.parquet").touch()
    (tmp_path / "out.parquet").chmod(0o640)
    list(results(tmp_path).publish([]))
    assert (tmp_path / "out.parquet").stat().st_mode & 0o777 == 0o640
    assert published(tmp_path) == []


def test_only_results_are_opened_as_results(tmp_path: Path):
    path = tmp_path / "other.parquet"
    pq.write_table(pa.table({"row": [1]}), path)
    for metadata in ({}, {"tagger": "{}"}, {"tagger": "no JSON"}, {"tagger": '{"other": 1}'}):
        pq.write_table(pa.table({"row": [1]}).replace_schema_metadata(metadata), path)
        with pytest.raises(ManifestError, match="expected results of tagger, found a Parquet file without them"):
            open_results(path)
    with pytest.raises(ManifestError, match="expected a Parquet file, found no such file; check the path"):
        open_results(tmp_path / "none.parquet")


def test_the_manifests_metadata_stays_beside_taggers():
    manifest = pa.schema([pa.field("row", pa.int64(), metadata={"a": "b"})], metadata={"huggingface": "{}"})
    schema = result_schema(manifest, ["kind"], {"version": "1"})
    assert schema.metadata[b"huggingface"] == b"{}"
    assert schema.field("row").metadata == {b"a": b"b"}
    assert schema.names[1:] == ["kind_label", "kind_confidence", "kind_top", "kind_source", "tag_status", "tag_reason"]
