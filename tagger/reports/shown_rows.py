"""The rows that a page shows, as plain values."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import pyarrow as pa
import pyarrow.compute as pc

from tagger.catalog.schemas import is_bytes
from tagger.catalog.truth import TruthReader, to_text


class Answer(NamedTuple):
    """What a result says of a row for one attribute; None where it says nothing. top: label and confidence, best first."""

    label: str | None
    confidence: float | None
    truth: str | None
    top: Sequence[tuple[str, float]]


@dataclass(frozen=True, kw_only=True)
class ShownRow:
    """A row of a result: its number from 0, its id or else its image's reference, if it has one, and what was found."""

    number: int
    name: str | None
    reference: str | None
    reason: str | None
    answers: Mapping[str, Answer]


def columns_of_rows(truth_columns: Mapping[str, str | None], image_column: str | None, id_column: str | None) -> list[str]:
    """Return the columns of a result that `shown_rows` needs. truth_columns: attribute -> its truth column."""
    columns = [name for name in (image_column, id_column) if name is not None]
    for name, truth in truth_columns.items():
        columns += [f"{name}_label", f"{name}_confidence", f"{name}_top", *filter(None, [truth])]
    return list(dict.fromkeys([*columns, "tag_reason"]))


def shown_rows(
    rows: Sequence[int],
    table: pa.Table,
    truths: Mapping[str, tuple[str | None, Sequence[str]]],
    image_column: str | None,
    id_column: str | None,
) -> dict[int, ShownRow]:
    """Return number -> row for these rows of a result, which the table holds in this order.

    truths: attribute -> its truth column and labels; a truth value that is a label but for case or space is shown as the label.
    """
    references = _references(table, image_column)
    ids = [None] * len(rows) if id_column is None else [_as_text(value) for value in table[id_column].to_pylist()]
    reasons = table["tag_reason"].to_pylist()
    answers = {name: _answers(table, name, *truth) for name, truth in truths.items()}
    return {
        number: ShownRow(
            number=number,
            name=references[place] if ids[place] is None else ids[place],
            reference=references[place],
            reason=reasons[place],
            answers={name: found[place] for name, found in answers.items()},
        )
        for place, number in enumerate(rows)
    }


def _answers(table: pa.Table, name: str, truth_column: str | None, labels: Sequence[str]) -> list[Answer]:
    truths: list[str | None] = [None] * len(table)
    if truth_column is not None:
        texts = to_text(table[truth_column], table.schema, truth_column)
        truths = pc.coalesce(pa.array(labels, pa.string()).take(TruthReader(labels).read(texts)), texts).to_pylist()
    tops = [[(item["label"], item["confidence"]) for item in top or ()] for top in table[f"{name}_top"].to_pylist()]
    columns = (table[f"{name}_label"].to_pylist(), table[f"{name}_confidence"].to_pylist(), truths, tops)
    return [Answer(*values) for values in zip(*columns, strict=True)]


def _references(table: pa.Table, image_column: str | None) -> list[str | None]:
    """Return where each image lies, None for one that lies in its row."""
    if image_column is None or is_bytes(table.schema.field(image_column).type):
        return [None] * len(table)
    column = table[image_column].combine_chunks()
    if pa.types.is_struct(column.type):
        column = pc.struct_field(column, "path")
    found: list[str | None] = column.to_pylist()
    return found


def _as_text(value: object) -> str | None:
    return None if value is None else str(value)
