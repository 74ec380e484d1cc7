"""What people are asked about rows of a result: a table, in CSV and in Parquet, whose columns all formats of a review share.

A person fills in `correction` with a label, or `note` with one of corrections.NOTES; rows without either were not answered. The
rest says which row of which result was asked about: `id`, if the catalogue has an id column, and `image_hash`, without the
secrets that a reference may hold, so that a correction never lands on a picture that nobody has seen.
"""

from __future__ import annotations

import csv
import hashlib
import io
from collections.abc import Mapping
from dataclasses import dataclass

import pyarrow as pa
import pyarrow.parquet as pq

from tagger.core.csv_cells import neutralise
from tagger.core.text import without_secrets
from tagger.core.types import ImageRef

COLUMNS = (
    *("id", "image", "label", "confidence", "second", "second_confidence", "reason", "truth"),
    *("correction", "note", "by", "at"),
    *("attribute", "id_column", "image_hash", "result"),
)
HASH_CHARACTERS = 32  # of a SHA-256 in hexadecimal


@dataclass(frozen=True, slots=True, kw_only=True)
class ReviewItem:
    """A row of a result that a person is asked about.

    id: its value in the id column, None where the catalogue has none. image: its reference, None where it is embedded. top:
    label and confidence, best first. reason: why it is asked about. truth: what stands in the truth column.
    """

    id: str | None
    image: str | None
    image_hash: str
    top: tuple[tuple[str, float], ...]
    reason: str
    truth: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Review:
    """The rows of a result that a person is asked about; `result` is its fingerprint, `model` what tagged it."""

    attribute: str
    labels: tuple[str, ...]
    id_column: str | None
    result: str
    model: str
    items: tuple[ReviewItem, ...]


def image_hash(ref: ImageRef) -> str:
    """Return a hash of the embedded bytes, else of the reference as it stands in the manifest."""
    data = ref.data if ref.data is not None else (ref.path or "").encode()
    return hashlib.sha256(data).hexdigest()[:HASH_CHARACTERS]


def to_row(review: Review, item: ReviewItem) -> dict[str, str | float | None]:
    """Return an item by COLUMNS, not answered yet."""
    second = item.top[1] if len(item.top) > 1 else (None, None)
    values = (
        *(item.id, None if item.image is None else without_secrets(item.image), *item.top[0], *second, item.reason, item.truth),
        *(None, None, None, None),
        *(review.attribute, review.id_column, item.image_hash, review.result),
    )
    return dict(zip(COLUMNS, values, strict=True))


def to_cells(row: Mapping[str, str | float | None]) -> list[str]:
    """Return a row's cells for a CSV file, neutralised."""
    return ["" if value is None else neutralise(value) if isinstance(value, str) else f"{value:.6g}" for value in row.values()]


def to_csv(review: Review) -> bytes:
    """Return the items as CSV in UTF-8, with the mark at its start by which Excel knows that."""
    text = io.StringIO(newline="")
    writer = csv.writer(text)
    writer.writerow(COLUMNS)
    writer.writerows(to_cells(to_row(review, item)) for item in review.items)
    return text.getvalue().encode("utf-8-sig")


def to_parquet(review: Review) -> bytes:
    """Return the items as a Parquet file: texts, and confidences as float64."""
    kinds = {name: pa.float64() if name.endswith("confidence") else pa.string() for name in COLUMNS}
    table = pa.Table.from_pylist([to_row(review, item) for item in review.items], pa.schema(kinds))
    buffer = io.BytesIO()
    pq.write_table(table, buffer, compression="zstd")
    return buffer.getvalue()
