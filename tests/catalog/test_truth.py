"""Corrections become truth: in these cells and no other, of the rows that were meant, or not at all."""

from __future__ import annotations

import json
import os
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tagger.catalog.corrections import Correction, Corrections
from tagger.catalog.manifest import Manifest, open_manifest
from tagger.catalog.review_table import image_hash
from tagger.catalog.schemas import result_schema, tagger_metadata
from tagger.catalog.truth import Applied, TruthWriter, with_truth
from tagger.core.errors import ManifestError
from tagger.core.types import ImageRef

NOW = datetime(2026, 2, 1, tzinfo=UTC)
SAID = datetime(2026, 1, 31, 12, 0, 0, 125_000, UTC)
ROWS = 300  # more than one shard of a manifest with large rows


def corrections(id_column: str | None, *answers: Correction) -> Corrections:
    return Corrections(attribute="kind", id_column=id_column, result="0" * 32, by_key={one.key: one for one in answers})


def says(key: str | None, image: Any, truth: str | None = None, note: str | None = None, by: str | None = "Ann") -> Correction:
    ref = ImageRef(0, data=image) if isinstance(image, bytes) else ImageRef(0, path=image)
    return Correction(id=key, image_hash=image_hash(ref), truth=truth, note=note, by=by, at=SAID)


def manifest_of(table: pa.Table, tmp_path: Path) -> Manifest:
    """Write the table as a manifest and open it with all its columns."""
    file = tmp_path / "manifest.parquet"
    pq.write_table(table, file, row_group_size=100)
    return replace(open_manifest(str(file), "image"), schema=pq.read_schema(file))


def apply(manifest: Manifest, given: Corrections, *, overwrite: bool = False, truth: str = "truth") -> tuple[Applied, pa.Table]:
    schema = with_truth(manifest, given.attribute, truth)
    file = manifest.files[0].with_name("out.parquet")
    applied = TruthWriter(manifest, schema, truth, given, overwrite, NOW).write(file)
    return applied, pq.read_table(file)


def table(rows: int = 6, **more: Any) -> pa.Table:
    columns = {
        "sku": [f"P{n}" for n in range(rows)],
        "image": [f"{n}.jpg" for n in range(rows)],
        "truth": pa.array(["old" if n % 2 else None for n in range(rows)], pa.string()),
        "price": [n / 3 for n in range(rows)],
        "tags": [[{"n": n, "blob": bytes([n % 256])}] for n in range(rows)],
    }
    return pa.table({**columns, **more}).replace_schema_metadata({b"pandas": b"{}", b"odd": b"\xff\x00"})


def test_only_the_corrected_cells_change(tmp_path: Path):
    before = table(ROWS, blob=pa.array([os.urandom(200_000) for _ in range(ROWS)]))
    manifest = manifest_of(before, tmp_path)
    given = corrections(
        "sku", says("P0", "0.jpg", "dress"), says("P298", "298.jpg", note="bad-picture"), says("P4", "4.jpg", "hat")
    )
    applied, after = apply(manifest, given)
    assert (applied.written, applied.confirmed, applied.kept) == (3, 0, [])
    assert after.column_names == [*before.column_names, "truth_by", "truth_at", "truth_note"]
    assert after.schema.metadata == before.schema.metadata
    untouched = [name for name in before.column_names if name != "truth"]
    assert after.select(untouched).equals(before.select(untouched))
    changed = {0: ("dress", None), 4: ("hat", None), 298: (None, "bad-picture")}
    for row, (old, new) in enumerate(zip(before["truth"].to_pylist(), after["truth"].to_pylist(), strict=True)):
        assert new == (changed[row][0] if row in changed else old)
    for name, value in (("truth_by", "Ann"), ("truth_at", SAID)):
        assert after[name].to_pylist() == [value if row in changed else None for row in range(ROWS)]
    assert after["truth_note"].to_pylist() == [changed.get(row, (None, None))[1] for row in range(ROWS)]
    assert pq.ParquetFile(tmp_path / "out.parquet").num_row_groups > 1


TEXTS = {"string": pa.string(), "large": pa.large_string(), "dictionary": pa.dictionary(pa.int8(), pa.string())}


@pytest.mark.parametrize("kind", TEXTS.values(), ids=TEXTS)
def test_the_truth_column_keeps_its_type(tmp_path: Path, kind: pa.DataType):
    before = table(truth=pa.array(["old", None, "", None, None, None], pa.string()).cast(kind))
    manifest = manifest_of(before, tmp_path)
    _, after = apply(manifest, corrections("sku", says("P2", "2.jpg", "dress"), says("P3", "3.jpg", "hat")))
    assert after.schema.field("truth").type == kind
    assert after["truth"].to_pylist() == ["old", None, "dress", "hat", None, None]


IMAGES = {
    "paths": pa.array([f"{n}.jpg" for n in range(6)]),
    "large paths": pa.array([f"{n}.jpg" for n in range(6)], pa.large_string()),
    "bytes": pa.array([bytes([n]) for n in range(6)]),
    "structs": pa.array([{"bytes": bytes([n]), "path": "image.jpg"} for n in range(6)]),
    "structs of paths": pa.array(
        [{"bytes": None, "path": f"{n}.jpg"} for n in range(6)], pa.struct({"bytes": pa.binary(), "path": pa.string()})
    ),
}


@pytest.mark.parametrize("images", IMAGES.values(), ids=IMAGES)
def test_without_an_id_the_image_names_the_row(tmp_path: Path, images: pa.Array):
    manifest = manifest_of(table(image=images), tmp_path)
    image = images[2].as_py()
    if isinstance(image, dict):
        image = image["bytes"] or image["path"]
    applied, after = apply(manifest, corrections(None, says(None, image, "dress")))
    assert (applied.written, after["truth"].to_pylist()) == (1, [None, "old", "dress", "old", None, "old"])


def test_without_an_id_all_rows_with_the_picture_are_corrected(tmp_path: Path):
    manifest = manifest_of(table(image=["a", "b", "a", "c", "d", "e"]), tmp_path)
    applied, after = apply(manifest, corrections(None, says(None, "a", "dress")))
    assert (applied.written, after["truth"].to_pylist()) == (2, ["dress", "old", "dress", "old", None, "old"])


@pytest.mark.parametrize("ids", [pa.array(range(6)), pa.array([f"{n}" for n in range(6)]).dictionary_encode()])
def test_ids_may_be_numbers_or_dictionaries(tmp_path: Path, ids: pa.Array):
    manifest = manifest_of(table(sku=ids), tmp_path)
    assert apply(manifest, corrections("sku", says("4", "4.jpg", "dress")))[1]["truth"][4].as_py() == "dress"


def test_truth_that_differs_is_kept_and_named_unless_it_is_to_be_overwritten(tmp_path: Path):
    manifest = manifest_of(table(), tmp_path)
    given = corrections(
        "sku",
        says("P1", "1.jpg", "dress"),
        says("P3", "3.jpg", "old"),
        says("P5", "5.jpg", note="not-in-list"),
        says("P0", "0.jpg", "hat"),
    )
    applied, after = apply(manifest, given)
    assert (applied.written, applied.confirmed) == (1, 1)
    assert applied.kept == ["P1 (old, corrected: dress)", "P5 (old, corrected: not-in-list)"]
    assert after["truth"].to_pylist() == ["hat", "old", None, "old", None, "old"]
    assert after["truth_by"].to_pylist() == ["Ann", None, None, "Ann", None, None]
    applied, after = apply(manifest, given, overwrite=True)
    assert (applied.written, applied.confirmed, applied.kept) == (3, 1, [])
    assert after["truth"].to_pylist() == ["hat", "dress", None, "old", None, None]
    assert after["truth_note"].to_pylist() == [None] * 5 + ["not-in-list"]


def test_a_second_time_nothing_changes_and_a_later_answer_takes_the_place_of_a_note(tmp_path: Path):
    first = corrections("sku", says("P0", "0.jpg", note="bad-picture"), says("P2", "2.jpg", "hat"))
    _, once = apply(manifest_of(table(), tmp_path), first)
    applied, twice = apply(manifest_of(once, tmp_path), first)
    assert (applied.changed, applied.confirmed) == (False, 2)
    assert twice.equals(once)
    applied, later = apply(
        manifest_of(once, tmp_path), corrections("sku", says("P0", "0.jpg", "dress", by="Bob")), overwrite=True
    )
    assert [later[f"truth{name}"][0].as_py() for name in ("", "_by", "_at", "_note")] == ["dress", "Bob", SAID, None]


def test_corrections_without_a_time_get_the_one_of_now(tmp_path: Path):
    given = corrections("sku", replace(says("P0", "0.jpg", "dress"), at=None))
    assert apply(manifest_of(table(), tmp_path), given)[1]["truth_at"][0].as_py() == NOW
    as_text = table(truth_at=pa.array([None] * 6, pa.string()))
    assert apply(manifest_of(as_text, tmp_path), given)[1]["truth_at"][0].as_py() == "2026-02-01T00:00:00+00:00"


def test_of_a_result_the_tags_stay_behind_and_the_metadata_names_the_truth(tmp_path: Path):
    plain = table().drop_columns(["truth"])
    attributes = [{"name": "kind", "labels": ["dress", "hat"], "truth_column": None}]
    schema = result_schema(plain.schema, ["kind"], {"model": {"name": "x"}, "taxonomy": "t", "attributes": attributes})
    columns = [plain[field.name] if field.name in plain.column_names else pa.nulls(6, field.type) for field in schema]
    manifest = manifest_of(pa.Table.from_arrays(columns, schema=schema), tmp_path)
    _, after = apply(manifest, corrections("sku", says("P0", "0.jpg", "dress")), truth="seen")
    assert after.column_names[4:9] == ["seen", "seen_by", "seen_at", "seen_note", "kind_label"]
    expected = {**tagger_metadata(schema), "attributes": [{**attributes[0], "truth_column": "seen"}]}
    assert json.loads(after.schema.metadata[b"tagger"]) == expected
    assert open_manifest(str(tmp_path / "out.parquet"), "image").schema.names == [
        *plain.column_names,
        "seen",
        "seen_by",
        "seen_at",
        "seen_note",
    ]


REFUSED = {
    "unknown ids": ({}, ["P0", "X1", "X2"], "found no sku X1, X2, 2 of 3; they are of another catalogue, or a spreadsheet"),
    "another image": (
        {"image": ["z.jpg", "1.jpg", "2.jpg", "3.jpg", "4.jpg", "5.jpg"]},
        ["P0"],
        "found others in 1 rows: P0 (row 0)",
    ),
    "an id twice": ({"sku": ["P0", "P0", "P2", "P3", "P4", "P5"]}, ["P0", "P2"], "found 1 in several rows: P0 (2 rows)"),
}


@pytest.mark.parametrize(("columns", "ids", "message"), REFUSED.values(), ids=REFUSED)
def test_rows_that_do_not_fit_are_named(tmp_path: Path, columns: dict[str, Any], ids: list[str], message: str):
    manifest = manifest_of(table(**columns), tmp_path)
    with pytest.raises(ManifestError) as error:
        apply(manifest, corrections("sku", *(says(key, f"{key[1:]}.jpg", "dress") for key in ids)))
    assert message in str(error.value)
    assert str(error.value).endswith("nothing was written")


@pytest.mark.parametrize("columns", [{"truth": list(range(6))}, {"truth_by": list(range(6))}, {"truth_at": list(range(6))}])
def test_columns_that_hold_something_else_are_refused(tmp_path: Path, columns: dict[str, Any]):
    manifest = manifest_of(table(**columns), tmp_path)
    with pytest.raises(ManifestError, match=r"column truth\S*: expected .+, found int64; rename it, or name another"):
        with_truth(manifest, "kind", "truth")
