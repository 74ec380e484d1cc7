"""Corrections: what goes out comes back answered, and what is damaged, foreign or contradictory is refused by name."""

from __future__ import annotations

import csv
import io
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tagger.catalog.corrections import (
    Corrections,
    collect,
    read_csv,
    read_table,
)
from tagger.catalog.review_table import COLUMNS, Review, ReviewItem, image_hash, to_csv, to_parquet
from tagger.core.errors import ManifestError
from tagger.core.types import ImageRef

RESULT = "0123456789abcdef" * 2
LABELS = ("dress", "Café-Bar", "=SUM(A1)", "-5 % off", "shirt", "Shirt")
TIME = "2026-01-31T12:00:00.125Z"


def item(number: int, **more: Any) -> ReviewItem:
    reference = f"https://user:secret@cdn.example/{number}.jpg?token=secret"
    values = {
        "id": f"-{number}",
        "image": reference,
        "image_hash": image_hash(reference_to(reference)),
        "top": (("dress", 0.5), ("shirt", 0.25)),
        "reason": "low-confidence: kind 0.500 is below 0.6",
        "truth": None,
    }
    return ReviewItem(**{**values, **more})


def reference_to(reference: str) -> ImageRef:
    return ImageRef(0, path=reference)


def review(*items: ReviewItem, id_column: str | None = "sku") -> Review:
    return Review(attribute="kind", labels=LABELS, id_column=id_column, result=RESULT, model="clip 12345678", items=items)


def answered_csv(tmp_path: Path, answers: dict[int, dict[str, str]], separator: str = ",", encoding: str = "utf-8-sig") -> Path:
    """The CSV of five items as a person filled it in, by a spreadsheet that writes this separator."""
    rows = list(csv.DictReader(io.StringIO(to_csv(review(*map(item, range(5)))).decode("utf-8-sig"), newline="")))
    for number, answer in answers.items():
        rows[number].update(answer)
    text = io.StringIO(newline="")
    writer = csv.DictWriter(text, COLUMNS, delimiter=separator)
    writer.writeheader()
    writer.writerows(rows)
    (tmp_path / "filled.csv").write_bytes(text.getvalue().encode(encoding))
    return tmp_path / "filled.csv"


def read(file: Path) -> Corrections:
    rows = read_table(file) if file.suffix == ".parquet" else read_csv(file)
    return collect(rows, {"kind": LABELS}, "file")


def test_a_csv_shows_what_a_person_needs_and_no_secret():
    text = to_csv(review(item(7)))
    assert text.startswith(b"\xef\xbb\xbfid,image,label,confidence,")
    assert b"secret" not in text
    [row] = csv.DictReader(io.StringIO(text.decode("utf-8-sig"), newline=""))
    assert {name: row[name] for name in COLUMNS if name not in ("image_hash",)} == {
        "id": "'-7",
        "image": "https://cdn.example/7.jpg?…",
        "label": "dress",
        "confidence": "0.5",
        "second": "shirt",
        "second_confidence": "0.25",
        "reason": "low-confidence: kind 0.500 is below 0.6",
        "truth": "",
        "correction": "",
        "note": "",
        "by": "",
        "at": "",
        "attribute": "kind",
        "id_column": "sku",
        "result": RESULT,
    }


@pytest.mark.parametrize(("separator", "encoding"), [(",", "utf-8-sig"), (";", "utf-8"), ("\t", "utf-8")])
def test_what_a_spreadsheet_saves_comes_back(tmp_path: Path, separator: str, encoding: str):
    answers = {
        0: {"correction": "dress", "by": "'=Ann", "at": TIME},
        1: {"correction": "'=SUM(A1)", "by": "Ann"},
        2: {"note": "not in this list"},
        3: {"note": "bad-picture"},
    }
    found = read(answered_csv(tmp_path, answers, separator, encoding))
    assert (found.attribute, found.id_column, found.result) == ("kind", "sku", RESULT)
    assert {key: (one.truth, one.note, one.by) for key, one in found.by_key.items()} == {
        "-0": ("dress", None, "=Ann"),
        "-1": ("=SUM(A1)", None, "Ann"),
        "-2": (None, "not-in-list", None),
        "-3": (None, "bad-picture", None),
    }
    assert found.by_key["-0"].at == datetime(2026, 1, 31, 12, 0, 0, 125_000, UTC)


def test_a_parquet_file_comes_back(tmp_path: Path):
    file = tmp_path / "review.parquet"
    file.write_bytes(to_parquet(review(item(1), item(2), id_column="sku")))
    table = pq.read_table(file).to_pandas()
    table["at"] = pa.array([None, datetime(2026, 1, 31, 13, tzinfo=UTC)], pa.timestamp("us", "UTC")).to_pandas()
    table.loc[0, "correction"] = "-5 % off"
    table.loc[1, "note"] = "bad-picture"
    pq.write_table(pa.Table.from_pandas(table, preserve_index=False), file)
    found = read(file).by_key
    assert [(key, one.truth, one.note, one.at) for key, one in found.items()] == [
        ("-1", "-5 % off", None, None),
        ("-2", None, "bad-picture", datetime(2026, 1, 31, 13, tzinfo=UTC)),
    ]


def test_labels_may_be_typed_with_other_case_space_and_unicode_form_where_one_fits(tmp_path: Path):
    found = read(answered_csv(tmp_path, {0: {"correction": " CAFE\u0301-bar "}, 1: {"correction": "Shirt"}}))
    assert [one.truth for one in found.by_key.values()] == ["Café-Bar", "Shirt"]
    with pytest.raises(ManifestError, match="expected labels of the attribute, found 1 others: SHIRT"):
        read(answered_csv(tmp_path, {0: {"correction": "SHIRT"}}))


def test_a_row_that_is_answered_twice_the_same_counts_once(tmp_path: Path):
    file = answered_csv(tmp_path, {0: {"correction": "dress"}, 1: {"correction": "dress", "id": "'-0"}})
    with pytest.raises(ManifestError, match="found 1 rows with different ones: -0 "):
        read(file)  # the id is the same, the image is another
    rows = read_csv(answered_csv(tmp_path, {0: {"correction": "dress", "by": "Ann"}}))
    found = collect([*rows, {**rows[0], "by": "Bob"}], {"kind": LABELS}, "file").by_key
    assert [(one.truth, one.by) for one in found.values()] == [("dress", "Bob")]


WRONG = {
    "unknown label": (
        {0: {"correction": "dres"}, 1: {"correction": "x"}},
        "found 2 others: dres (of -0), x (of -1); did you mean dress?",
    ),
    "contradiction": ({0: {"correction": "dress"}, 1: {"correction": "shirt", "id": "'-0"}}, "different ones: -0 (dress, shirt)"),
    "nothing filled in": ({}, "expected rows with a correction, found none in 5"),
    "unknown note": ({0: {"note": "blurred"}}, "row 1: expected a correction, or the note not-in-list or bad-picture, found bl"),
    "both": ({2: {"note": "bad-picture", "correction": "dress"}}, "row 3: expected a correction, or the note"),
    "another attribute": (
        {number: {"attribute": "sort", "correction": "dress"} for number in range(5)},
        "expected attribute kind, found sort",
    ),
    "two results": ({0: {"result": "f" * 32, "correction": "dress"}}, "expected rows of one result and attribute, found 2"),
    "a hash cut off": ({0: {"image_hash": "12ab", "correction": "dress"}}, "row 1: expected a row of a review"),
    "no id": ({0: {"id": "", "correction": "dress"}}, "row 1: expected a row of a review"),
    "no time": ({0: {"correction": "dress", "at": "yesterday"}}, "row 1: at: expected a time such as"),
}


@pytest.mark.parametrize(("answers", "message"), WRONG.values(), ids=WRONG)
def test_what_is_wrong_is_named(tmp_path: Path, answers: dict[int, dict[str, str]], message: str):
    with pytest.raises(ManifestError) as error:
        read(answered_csv(tmp_path, answers))
    assert message in str(error.value)
    assert error.value.exit_code == 65


DAMAGED = {
    "empty": (b"", "found none in 0"),
    "of something else": (b"name,price\nx,1\n", "expected the columns of a review, found no id, correction"),
    "no text": (b"id,correction\n\xff\xfe", "expected text in UTF-8"),
    "a quote without end": (b'id,correction\n"x', "expected CSV, found: unexpected end of data"),
}


@pytest.mark.parametrize(("content", "message"), DAMAGED.values(), ids=DAMAGED)
def test_a_damaged_csv_is_refused(tmp_path: Path, content: bytes, message: str):
    (tmp_path / "file.csv").write_bytes(content)
    with pytest.raises(ManifestError) as error:
        read(tmp_path / "file.csv")
    assert message in str(error.value)


def test_a_csv_that_is_cut_off_anywhere_is_refused_or_has_whole_rows_only(tmp_path: Path):
    whole = answered_csv(tmp_path, {n: {"correction": "dress", "by": "A"} for n in range(5)}).read_bytes()
    expected = {f"-{n}": "dress" for n in range(5)}
    for end in range(0, len(whole), 7):
        (tmp_path / "cut.csv").write_bytes(whole[:end])
        try:
            found = read(tmp_path / "cut.csv").by_key
        except ManifestError:
            continue
        assert {key: one.truth for key, one in found.items()}.items() <= expected.items()


def test_a_missing_file_is_named(tmp_path: Path):
    with pytest.raises(ManifestError, match="expected a file of corrections, found: No such file"):
        read(tmp_path / "none.csv")
