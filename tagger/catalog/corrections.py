"""What people say of a result's rows, read from the table that went out (review_table.py) when it comes back filled in."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from difflib import get_close_matches
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from tagger.catalog.review_table import COLUMNS, HASH_CHARACTERS
from tagger.core.csv_cells import restore
from tagger.core.errors import ManifestError
from tagger.core.files import reason
from tagger.core.text import first_line, folded

NEEDED = ("id", "correction", "attribute", "id_column", "image_hash", "result")
NOTES = ("not-in-list", "bad-picture")
MAX_BYTES = 512 << 20  # of a file of corrections, which is read whole
SHOWN = 5  # of the rows that a message names

Row = Mapping[str, object]


@dataclass(frozen=True, slots=True, kw_only=True)
class Correction:
    """What a person says of a row: its label `truth`, or instead a `note`, one of NOTES; by whom and when."""

    id: str | None
    image_hash: str
    truth: str | None
    note: str | None
    by: str | None
    at: datetime | None

    @property
    def key(self) -> str:
        """What names the row: its id, or else its image."""
        return self.image_hash if self.id is None else self.id

    @property
    def answer(self) -> tuple[str | None, str | None]:
        return self.truth, self.note


@dataclass(frozen=True, slots=True, kw_only=True)
class Corrections:
    """The answers of one file, by the key of their rows; what they are about is as in Review."""

    attribute: str
    id_column: str | None
    result: str
    by_key: Mapping[str, Correction]


def read_csv(file: Path) -> list[Row]:
    """Read a CSV file that a page has saved or a spreadsheet. Raises ManifestError."""
    text = _decode(file)
    header = text.partition("\n")[0]
    separator = max(",;\t", key=header.count)  # spreadsheets of many countries write semicolons
    rows: list[Row] = []
    try:
        reader = csv.reader(io.StringIO(text, newline=""), delimiter=separator, strict=True)
        names = next(reader, [])
        for cells in reader:
            if not any(cells):
                continue
            if len(cells) != len(names):
                raise ManifestError(
                    f"{file}: row {len(rows) + 1}: expected {len(names)} cells, found {len(cells)}; the file is damaged: save it "
                    "again"
                )
            rows.append({name: restore(cell) for name, cell in zip(names, cells, strict=True)})
    except csv.Error as error:
        raise ManifestError(f"{file}: expected CSV, found: {first_line(error)}; the file is damaged: save it again") from error
    return rows


def read_table(file: Path) -> list[Row]:
    """Read a Parquet file, which catalog/sandbox.py has read before. Raises ManifestError."""
    try:
        with pq.ParquetFile(file) as opened:
            names = [name for name in (*COLUMNS, "annotator", "updated_at") if name in opened.schema_arrow.names]
            rows: list[Row] = opened.read(columns=names).to_pylist()
            return rows
    except (OSError, pa.ArrowException) as error:
        raise ManifestError(f"{file}: expected Parquet, found: {reason(error)}; write the file again") from error


def _decode(file: Path) -> str:
    data = read_whole(file)
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise ManifestError(f"{file}: expected text in UTF-8, found {error.reason}; save it as CSV UTF-8") from error


def read_whole(file: Path) -> bytes:
    """Read a file of corrections. Raises ManifestError where there is none, or it is too large for one."""
    try:
        if (size := file.stat().st_size) > MAX_BYTES:
            raise ManifestError(f"{file}: expected corrections, at most {MAX_BYTES:,} bytes, found {size:,}; check the path")
        return file.read_bytes()
    except OSError as error:
        raise ManifestError(f"{file}: expected a file of corrections, found: {reason(error)}; check the path") from error


def collect(rows: Sequence[Row], labels: Mapping[str, Sequence[str]], where: str) -> Corrections:
    """Return the answers in these rows, each row asked about once.

    labels: attribute -> the labels that an answer may name; case, outer space and Unicode form do not matter where only one
    label fits. Raises ManifestError, which names what it found, where the rows are damaged, are of several results, name
    an attribute or labels that there are not, or contradict each other.
    """
    if missing := [name for name in NEEDED if rows and name not in rows[0]]:
        raise ManifestError(f"{where}: expected the columns of a review, found no {', '.join(missing)}; choose its file")
    about = {tuple(_text(row, name) for name in ("attribute", "id_column", "result")) for row in rows}
    if len(about) > 1:
        raise ManifestError(f"{where}: expected rows of one result and attribute, found {len(about)}; apply them one by one")
    answered = [(number, row) for number, row in enumerate(rows, 1) if _text(row, "correction") or _text(row, "note")]
    if not answered:
        raise ManifestError(f"{where}: expected rows with a correction, found none in {len(rows)}; fill in `correction`")
    attribute, id_column, result = about.pop()
    if attribute is None or attribute not in labels:
        raise ManifestError(f"{where}: expected attribute {', '.join(labels)}, found {attribute}; it is of another catalogue")
    found = [_correction(row, id_column, f"{where}: row {number}") for number, row in answered]
    by_key = _without_contradictions(_with_labels(found, labels[attribute], where), where)
    return Corrections(attribute=attribute, id_column=id_column, result=result or "", by_key=by_key)


def _correction(row: Row, id_column: str | None, where: str) -> Correction:
    """Return what a row says. Raises ManifestError where it is damaged."""
    found, image, result = _text(row, "id"), _text(row, "image_hash") or "", _text(row, "result") or ""
    if not (_is_hash(image) and _is_hash(result)) or (found is None) != (id_column is None):
        raise ManifestError(
            f"{where}: expected a row of a review, with its id, image_hash and result, found one without; the file is damaged"
        )
    truth, note = _text(row, "correction"), _text(row, "note")
    if note is not None:
        note = "-".join(note.lower().replace("-", " ").replace("this ", "").split())
        if note not in NOTES or truth is not None:
            shown = f"{truth} and {note}" if truth is not None else note
            raise ManifestError(f"{where}: expected a correction, or the note {' or '.join(NOTES)}, found {shown}; correct it")
    by = _text(row, "by") or _text(row, "annotator")
    at = _time(row.get("at") or row.get("updated_at") or None, where)
    return Correction(id=found, image_hash=image, truth=truth, note=note, by=by, at=at)


def _text(row: Row, name: str) -> str | None:
    value = row.get(name)
    return None if value is None or value == "" else str(value)


def _is_hash(text: str) -> bool:
    return re.fullmatch(rf"[0-9a-f]{{{HASH_CHARACTERS}}}", text) is not None


def _time(value: object, where: str) -> datetime | None:
    if value is None:
        return None
    try:
        found = value if isinstance(value, datetime) else datetime.fromisoformat(str(value))
    except ValueError as error:
        raise ManifestError(f"{where}: at: expected a time such as 2026-01-31T12:00:00Z, found {value}; correct it") from error
    return (found if found.tzinfo else found.replace(tzinfo=UTC)).astimezone(UTC)


def _with_labels(found: Iterable[Correction], labels: Sequence[str], where: str) -> list[Correction]:
    """Return the corrections with labels as the attribute has them. Raises ManifestError for others."""
    by_folded: dict[str, list[str]] = {}
    for label in labels:
        by_folded.setdefault(folded(label), []).append(label)
    corrections, unknown = [], []
    for one in found:
        if one.truth is not None and one.truth not in labels:
            fitting = by_folded.get(folded(one.truth), [])
            if len(fitting) != 1:
                unknown.append(one)
                continue
            one = replace(one, truth=fitting[0])
        corrections.append(one)
    if unknown:
        close = get_close_matches(unknown[0].truth or "", labels, n=1)
        hint = f"; did you mean {close[0]}?" if close else f"; the labels are {', '.join(labels[:SHOWN])} …"
        names = [f"{one.truth} (of {one.key})" for one in unknown]
        raise ManifestError(f"{where}: expected labels of the attribute, found {len(unknown)} others: {name_some(names)}{hint}")
    return corrections


def _without_contradictions(found: Iterable[Correction], where: str) -> dict[str, Correction]:
    """Return the corrections by the key of their row, of several that agree the last. Raises ManifestError where they do not."""
    by_key: dict[str, Correction] = {}
    differing: dict[str, str] = {}
    for one in found:
        other = by_key.get(one.key)
        if other is not None and (other.answer, other.image_hash) != (one.answer, one.image_hash):
            differing[one.key] = f"{one.key} ({other.truth or other.note}, {one.truth or one.note})"
        by_key[one.key] = one
    if differing:
        raise ManifestError(
            f"{where}: expected one answer for each row, found {len(differing)} rows with different ones: "
            f"{name_some(list(differing.values()))}; leave one of each"
        )
    return by_key


def name_some(names: Sequence[str]) -> str:
    """Name the first of them, and say how many more there are."""
    more = f" and {len(names) - SHOWN:,} more" if len(names) > SHOWN else ""
    return f"{', '.join(names[:SHOWN])}{more}"
