"""Changed labels between two nights, whatever happened to the rows in between."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tagger.catalog.schemas import result_schema
from tagger.core.errors import StoppedError
from tagger.evaluation import changes
from tagger.evaluation.changes import Changed, ChangedRow, LabelChanges, compare_with

LABELS = ["hat", "bag", "shoes"]
KINDS = {
    "text": pa.string(),
    "large text": pa.large_string(),
    "dictionary": pa.dictionary(pa.int32(), pa.string()),
    "numbers": pa.int64(),
    "struct": pa.struct([("bytes", pa.binary()), ("path", pa.string())]),
}


def result(
    keys: list[Any],
    tags: list[str | None],
    kind: pa.DataType = KINDS["text"],
    labels: list[str] = LABELS,
    confidence: list[float] | None = None,
) -> pa.Table:
    """Rows of a result, as far as they are compared."""
    described = {"attributes": [{"name": "kind", "labels": labels, "truth_column": None}]}
    schema = result_schema(pa.schema([pa.field("key", kind)]), ["kind"], described)
    known = [None if tag is None else 0.5 for tag in tags] if confidence is None else confidence
    columns = [pa.array(keys, kind), pa.array(tags, pa.string()), pa.array(known, pa.float32())]
    return pa.table([*columns, *(pa.nulls(len(keys), field.type) for field in list(schema)[3:])], schema=schema)


def counts(*compared: Any, **options: Any) -> tuple[int, int]:
    """Rows that were compared, and those that have changed."""
    found = compare(*compared, **options)
    assert len(found.examples) == min(found.changed, 24)
    return found.rows, found.changed


def compare(folder: Path, before: pa.Table, now: pa.Table, cut: int = 1_000) -> Changed:
    pq.write_table(before, folder / "before.parquet")
    compared = compare_with(folder / "before.parquet", now.schema, "key", ["kind"])
    assert isinstance(compared, LabelChanges)
    for start in range(0, len(now), cut):
        compared.update(now.slice(start, cut))
    return compared.counts["kind"]


@pytest.mark.parametrize("kind", KINDS)
def test_rows_are_matched_wherever_they_are(tmp_path: Path, kind: str):
    def keys(*numbers: int) -> list[Any]:
        if kind == "struct":
            return [{"bytes": b"image", "path": f"{number}.jpg"} for number in numbers]
        return [number if kind == "numbers" else f"{number}.jpg" for number in numbers]

    before = result(keys(1, 2, 3, 4), ["hat", "bag", None, "shoes"], KINDS[kind])
    now = result(keys(9, 4, 3, 2), ["hat", "shoes", "hat", "hat"], KINDS[kind])
    example = ChangedRow(row=3, before="bag", now="hat", confidence_before=0.5, confidence_now=0.5)
    assert compare(tmp_path, before, now) == Changed(rows=2, changed=1, examples=(example,))


@given(
    before=st.dictionaries(st.text(max_size=3), st.sampled_from([*LABELS, None]), max_size=30),
    now=st.lists(
        st.tuples(st.text(max_size=3), st.sampled_from([*LABELS, "cape", None])), max_size=30, unique_by=lambda row: row[0]
    ),
    cut=st.integers(1, 30),
)
@settings(deadline=None)
def test_the_counts_are_those_of_two_dictionaries(
    tmp_path_factory, before: dict[str, str | None], now: list[tuple[str, str | None]], cut: int
):
    both = [(before[key], tag) for key, tag in now if tag is not None and before.get(key) is not None]
    found = counts(
        tmp_path_factory.mktemp("changes"),
        result(list(before), list(before.values())),
        result([key for key, _ in now], [tag for _, tag in now], labels=[*LABELS, "cape"]),
        cut,
    )
    assert found == (len(both), sum(one != other for one, other in both))


def test_a_long_result_is_read_in_pieces(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(changes, "BATCH", 7)
    names = [f"{number}.jpg" for number in range(100)]
    tags = [LABELS[number % 3] for number in range(100)]
    other = [LABELS[(number + (number < 10)) % 3] for number in range(100)]
    now = result(names, other).take(list(range(99, -1, -1)))
    assert counts(tmp_path, result(names, tags), now, cut=13) == (100, 10)


def test_the_most_confident_changes_are_kept_with_both_confidences(tmp_path: Path):
    names = [f"{number}.jpg" for number in range(60)]
    before = result(names, ["hat"] * 60, confidence=[number / 64 for number in range(60)])
    now = result(names[::-1], ["cape"] * 60, labels=["cape", "bag"], confidence=[number % 32 / 32 for number in range(60)])
    found = compare(tmp_path, before, now, cut=7)
    assert (found.rows, found.changed, len(found.examples)) == (60, 60, 24)
    first = {"before": "hat", "now": "cape", "confidence_now": 31 / 32}
    assert found.examples[0] == ChangedRow(row=31, confidence_before=28 / 64, **first)
    assert [one.row for one in found.examples[1:5]] == [30, 29, 28, 27]
    assert [one.row for one in found.examples[5:8]] == [59, 26, 58]


def test_rows_without_a_key_and_attributes_that_are_new_are_not_compared(tmp_path: Path):
    assert compare(tmp_path, result([None, "a"], ["hat", "hat"]), result(["a", None], ["hat", "bag"])) == Changed(1, 0, ())
    compared = compare_with(tmp_path / "before.parquet", result([], []).schema, "key", ["colour"])
    assert isinstance(compared, LabelChanges)
    assert compared.counts == {"colour": Changed()}


def test_what_cannot_be_matched_is_said(tmp_path: Path):
    pq.write_table(result(["a"], ["hat"]), tmp_path / "before.parquet")
    embedded = result([b"image"], ["hat"], pa.binary())
    said = compare_with(tmp_path / "before.parquet", embedded.schema, "key", ["kind"])
    assert said == "embedded images have no name to match rows by; set [manifest] id_column"
    said = compare_with(tmp_path / "before.parquet", pa.schema([("id", pa.string())]), "id", ["kind"])
    assert said == "the earlier result has no column id to match rows by"


def test_a_result_that_can_no_longer_be_read_stops_the_run(tmp_path: Path):
    with pytest.raises(StoppedError, match="expected to read the labels of the earlier result, found: .*; nothing was published"):
        compare_with(tmp_path / "gone.parquet", result([], []).schema, "key", ["kind"])
