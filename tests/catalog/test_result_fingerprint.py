"""Which result it is, by its answers."""

from __future__ import annotations

import pyarrow as pa
from hypothesis import given
from hypothesis import strategies as st

from tagger.catalog.result_fingerprint import ResultFingerprint
from tagger.catalog.schemas import result_schema

LABELS = ["dress", "hat"]
DESCRIBED = {"attributes": [{"name": "kind", "labels": LABELS, "truth_column": None}], "model": {}, "taxonomy": "0"}
SCHEMA = result_schema(pa.schema([]), ["kind"], DESCRIBED)


def fingerprint(labels: list[str | None], cuts: list[int]) -> str:
    rows = pa.record_batch(
        {"kind_label": pa.array(labels, pa.string()), "kind_confidence": pa.array([0.5] * len(labels), pa.float32())}
    )
    found = ResultFingerprint(SCHEMA, "kind")
    for start, stop in zip([0, *cuts], [*cuts, len(labels)], strict=True):
        found.update(rows.slice(start, stop - start))
    return found.result()


@given(st.lists(st.sampled_from([*LABELS, None]), min_size=1, max_size=30), st.data())
def test_it_does_not_depend_on_how_the_rows_are_cut(labels: list[str | None], data: st.DataObject):
    cuts = sorted(data.draw(st.lists(st.integers(0, len(labels)), max_size=4)))
    assert fingerprint(labels, cuts) == fingerprint(labels, [])


def test_another_answer_makes_another_result():
    assert fingerprint(["hat", "dress"], []) != fingerprint(["dress", "hat"], [])
