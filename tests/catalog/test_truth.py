"""Truth as people type it: which label a value names, in every form that a column has."""

from __future__ import annotations

import json
import unicodedata
from itertools import chain
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tagger.catalog.manifest import open_manifest
from tagger.catalog.truth import TruthReader, can_be_truth, class_names, read_texts, require_text, to_text
from tagger.core.errors import ManifestError

LABELS = ("Größe L", "dress", "Polo", "polo")


def with_classes(column: str, feature: Any, **columns: pa.Array) -> pa.Table:
    """A table as Hugging Face datasets write it."""
    metadata = {b"huggingface": json.dumps({"info": {"features": {column: feature}}}).encode()}
    table = pa.table(columns)
    return table.replace_schema_metadata(metadata)


def texts(values: pa.Array) -> list[str | None]:
    return to_text(values, pa.schema([("kind", values.type)]), "kind").to_pylist()


@pytest.mark.parametrize(
    ("value", "label"),
    [
        ("dress", 1),
        ("DRESS", 1),
        ("dress\r\n", 1),
        ("\u00a0dress\u3000", 1),
        ("\ufeffdress", 1),
        ("dre\u017fs\u200b", 1),
        ("größe l", 0),
        ("GRÖSSE \t L", 0),
        (unicodedata.normalize("NFD", "Größe L"), 0),
        ("Polo", 2),
        ("polo", 3),
        ("POLO", None),  # which of the two is not to be known
        ("polo ", None),
        ("dresses", None),
        ("d ress", None),
        (None, None),
    ],
)
def test_a_value_names_the_label_that_it_is_or_folds_to(value: str | None, label: int | None):
    reader = TruthReader(LABELS)
    found = reader.read(pa.chunked_array([pa.array([value, None], pa.string()), pa.array([value], pa.string())]))
    assert found.to_pylist() == [label, None, label]
    assert reader.unknown.rows == (2 if value is not None and label is None else 0)
    assert reader.folded.counts == ({value: 2} if label is not None and value not in LABELS else {})


@given(st.lists(st.lists(st.sampled_from([*LABELS, "Dress", " dress", "POLO", "hat", None]), max_size=9), max_size=4))
def test_every_value_is_a_label_or_unknown_or_none(parts: list[list[str | None]]):
    reader = TruthReader(LABELS)
    found = [reader.read(pa.array(part, pa.string())).to_pylist() for part in parts]
    values, read = [*chain(*parts)], [*chain(*found)]
    assert [LABELS[one] for one, value in zip(read, values, strict=True) if value in LABELS] == [v for v in values if v in LABELS]
    assert reader.folded.rows == sum(value in ("Dress", " dress") for value in values)
    assert reader.unknown.rows == sum(value in ("POLO", "hat") for value in values)
    assert reader.unknown.counts.total() == reader.unknown.rows


@pytest.mark.parametrize(
    "kind",
    [
        pa.string(),
        pa.large_string(),
        pa.string_view(),
        pa.binary(),
        pa.large_binary(),
        pa.binary_view(),
        pa.dictionary(pa.int8(), pa.string()),
        pa.dictionary(pa.int32(), pa.large_string()),
        pa.dictionary(pa.int32(), pa.binary()),
    ],
    ids=str,
)
def test_text_is_read_in_every_type_and_blank_text_is_none(kind: pa.DataType):
    values = pa.array(["dress", None, " ", "", "Größe", "\u00a0"]).cast(pa.binary() if "binary" in str(kind) else pa.string())
    values = values.dictionary_encode().cast(kind) if pa.types.is_dictionary(kind) else values.cast(kind)
    assert texts(values) == ["dress", None, None, None, "Größe", None]
    assert can_be_truth(pa.schema([("kind", kind)]), "kind")


def test_classes_of_hugging_face_are_read_by_their_names():
    feature = {"names": ["dress", "hat"], "_type": "ClassLabel"}
    for kind in (pa.int64(), pa.int8(), pa.uint16()):
        numbers = [0, 1, None, 7] if kind == pa.uint16() else [0, 1, None, 7, -1]
        table = with_classes("kind", feature, kind=pa.array(numbers, kind))
        assert class_names(table.schema, "kind") == ("dress", "hat")
        assert to_text(table["kind"], table.schema, "kind").to_pylist() == ["dress", "hat", None, "7", None][: len(numbers)]


@pytest.mark.parametrize(
    "feature",
    [
        {"dtype": "int64", "_type": "Value"},
        {"names": None, "_type": "ClassLabel"},
        {"names": [1, 2], "_type": "ClassLabel"},
        {"_type": "ClassLabel"},
        ["ClassLabel"],
        None,
    ],
)
def test_numbers_without_names_are_no_truth(feature: Any):
    schema = with_classes("kind", feature, kind=pa.array([1]), size=pa.array([1])).schema
    assert not can_be_truth(schema, "kind")
    assert not can_be_truth(schema, "size")
    assert not can_be_truth(schema.with_metadata({b"huggingface": b"{"}), "kind")
    assert not can_be_truth(schema.remove_metadata(), "kind")


@pytest.mark.parametrize("kind", [pa.list_(pa.string()), pa.bool_(), pa.float64(), pa.timestamp("s")], ids=str)
def test_other_types_are_no_truth(kind: pa.DataType):
    assert not can_be_truth(pa.schema([("kind", kind)]), "kind")


def test_bytes_that_are_no_text_are_refused_with_their_row(tmp_path: Path):
    values = [b"dress", None, b"hat\xff", b"\x89PNG"]
    for number, kinds in enumerate((pa.array(values), pa.array(values).dictionary_encode())):
        path = tmp_path / f"{number}.parquet"
        pq.write_table(pa.table({"image": ["a"] * 4, "kind": kinds}), path, row_group_size=2)
        manifest = open_manifest(str(path))
        with pytest.raises(ManifestError, match="truth column kind: expected text, found bytes that are no UTF-8 in row 2"):
            require_text(manifest, "kind")
    assert [part.to_pylist() for part in read_texts(manifest, "image")] == [["a"] * 4]
