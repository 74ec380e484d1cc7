"""Turn decisions and errors into the tag columns of a shard."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from tagger.catalog.schemas import SET_TYPE, TOP_TYPE
from tagger.core.errors import ImageError
from tagger.core.types import Decision, LabelSets

STATUSES = ("tagged", "review", "error")
MAX_REASON = 300  # characters of an error's message that are kept


def tag_columns(
    rows: int,
    tagged: NDArray[np.int64],
    decisions: Mapping[str, tuple[Sequence[str], Decision]],
    errors: Mapping[int, ImageError],
    flaws: Mapping[int, str],
) -> list[pa.Array]:
    """Return the arrays of schemas.tag_fields for `rows` rows, each of which is either tagged or an error.

    tagged: int64 (N,), the rows (from 0) that the decisions are about, ascending. decisions: attribute -> its label names and
    its decision. errors: row -> error. flaws: row -> why its picture, tagged all the same, can be none of a product.
    """
    place = np.full(rows, -1, np.int64)
    place[tagged] = np.arange(len(tagged))
    missing = place < 0
    where = pa.array(place, mask=missing)  # taking with a null index gives a null
    columns: list[pa.Array] = []
    for labels, decision in decisions.values():
        names = pa.array(labels, pa.string())
        width = decision.top.shape[1]
        flat = pa.StructArray.from_arrays(
            [names.take(pa.array(decision.top.ravel())), pa.array(decision.confidence.ravel(), pa.float32())],
            fields=list(TOP_TYPE.value_type),
        )
        top = pa.ListArray.from_arrays(np.arange(len(tagged) + 1, dtype=np.int32) * width, flat, type=TOP_TYPE)
        columns += [
            names.take(pa.array(decision.top[:, 0], mask=decision.unknown)).take(where),
            pa.array(decision.confidence[:, 0], pa.float32(), mask=decision.unknown).take(where),
            top.take(where),
            *([_sets(names, decision.sets).take(where)] if decision.sets is not None else []),
            *([pa.array(decision.known, pa.float32()).take(where)] if decision.known is not None else []),
            pa.array(decision.source, pa.string()).take(where),
        ]
    reviews: dict[int, list[str]] = {row: [f"quality: {flaw}"] for row, flaw in flaws.items()}
    for _, decision in decisions.values():
        for row, reason in zip(tagged.tolist(), decision.review, strict=True):
            if reason is not None:
                reviews.setdefault(row, []).append(reason)
    reasons: list[str | None] = [None] * rows
    status = np.zeros(rows, np.int8)
    for row, found in reviews.items():
        reasons[row], status[row] = "; ".join(found), STATUSES.index("review")
    for row, error in errors.items():
        reasons[row], status[row] = str(error)[:MAX_REASON], STATUSES.index("error")
    return [*columns, pa.array(STATUSES, pa.string()).take(pa.array(status)), pa.array(reasons, pa.string())]


def _sets(names: pa.Array, sets: LabelSets) -> pa.Array:
    offsets = np.concatenate([[0], np.cumsum(sets.sizes)]).astype(np.int32)
    return pa.ListArray.from_arrays(offsets, names.take(pa.array(sets.labels)), type=SET_TYPE)


def status_counts(table: pa.Table) -> Counter[str]:
    """Count the rows by "tagged", "review" and the codes of errors."""
    reasons = table["tag_reason"]
    codes = pc.list_element(pc.split_pattern(pc.fill_null(reasons, ""), ":", max_splits=1), 0)
    outcomes = pc.if_else(pc.equal(table["tag_status"], "error"), codes, table["tag_status"])
    return Counter({item["values"]: item["counts"] for item in pc.value_counts(outcomes).to_pylist()})
