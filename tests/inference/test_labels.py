"""Which labels a job has, and which truth columns it may have."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tagger.core.errors import ConfigError, ManifestError
from tests.catalog.test_truth import with_classes
from tests.conftest import WriteManifest
from tests.inference.test_job import job


def found(manifest: Path, **overrides: Any) -> tuple[str, ...]:
    [attribute] = job(manifest, **overrides).attributes
    return attribute.label_names


@pytest.mark.parametrize(
    ("values", "labels", "merged"),
    [
        (
            ["Hat", "hat", "hat ", "Bag", "bag", "bag"],
            ("bag", "hat"),
            '"hat" of 1 "Hat", 1 "hat", 1 "hat "; "bag" of 1 "Bag", 2 "bag"',
        ),
        (["BAG", "Bag", "hat"], ("BAG", "hat"), '"BAG" of 1 "BAG", 1 "Bag"'),  # as many of each: the first
        (["Hat\r\n", "Hat\u00a0", "bag"], ("Hat", "bag"), '"Hat" of 1 "Hat\\r\\n", 1 "Hat\u00a0"'),
        (
            ["schu\u0308rze", "sch\u00fcrze", "hat"],
            ("hat", "sch\u00fcrze"),
            '"sch\u00fcrze" of 1 "schu\u0308rze", 1 "sch\u00fcrze"',
        ),
        (["hat", "bag", None, " ", "", "\ufeff"], ("bag", "hat"), None),
    ],
)
def test_variants_of_a_value_are_one_label(
    write_manifest: WriteManifest,
    caplog: pytest.LogCaptureFixture,
    values: list[str],
    labels: tuple[str, ...],
    merged: str | None,
):
    caplog.set_level("INFO", logger="tagger")
    for kind in (pa.string(), pa.binary()):
        assert found(write_manifest(["a.png"] * len(values), label=pa.array(values, pa.string()).cast(kind))) == labels
        first, *others = caplog.messages
        shown = ", ".join(f'"{label}"' for label in labels)
        assert first == f"labels: {shown} (the values of column label); `tagger init` writes a settings file to choose them"
        assert others == ([f"labels: values that match but for case or space are one label: {merged}"] if merged else [])
        caplog.clear()


def test_a_hundred_labels_are_counted_without_their_variants(write_manifest: WriteManifest):
    values = [f"value {number}" for number in range(100)]
    assert len(found(write_manifest(["a.png"] * 200, label=[*values, *map(str.upper, values)]))) == 100
    assert found(write_manifest(["a.png"] * 101, label=[*values, "other"])) == ("shirt", "dress", "shoes")


def test_the_labels_of_classes_are_their_names_in_order(tmp_path: Path):
    path = tmp_path / "manifest.parquet"
    feature = {"names": ["shoes", "Polo", "polo"], "_type": "ClassLabel"}
    pq.write_table(with_classes("label", feature, image=pa.array(["a.png"] * 2), label=pa.array([0, -1])), path)
    assert found(path) == ("shoes", "Polo", "polo")
    assert found(path, labels=["hat", "bag"]) == ("hat", "bag")


def test_bytes_that_are_no_text_give_no_labels(write_manifest: WriteManifest, caplog: pytest.LogCaptureFixture):
    manifest = write_manifest(["a.png"], category=pa.array([b"\x89PNG"]), label=pa.array([b"hat"]))
    [attribute] = job(manifest).attributes
    assert (attribute.label_names, attribute.truth_column) == (("shirt", "dress", "shoes"), "label")
    assert "found bytes that are no UTF-8 in row 0; store the labels as strings, or name another column; no labels" in caplog.text


@pytest.mark.parametrize("value", [1, True, 0.5, ["hat"]], ids=str)
def test_a_truth_column_of_another_type_is_refused(write_manifest: WriteManifest, value: Any):
    manifest = write_manifest(["a.png"], kind=[value])
    attribute = {"name": "kind", "labels": ["hat", "bag"], "truth_column": "kind"}
    with pytest.raises(ConfigError, match=r"to compare with the labels, found .*; store the labels' names as strings"):
        job(manifest, config={"attribute": [attribute]})


def test_a_truth_column_of_bytes_that_are_no_text_is_refused(write_manifest: WriteManifest):
    manifest = write_manifest(["a.png"] * 2, kind=[b"hat", b"\xff"])
    attribute = {"name": "kind", "labels": ["hat", "bag"], "truth_column": "kind"}
    with pytest.raises(ManifestError, match="truth column kind: expected text, found bytes that are no UTF-8 in row 1; store"):
        job(manifest, config={"attribute": [attribute]})
