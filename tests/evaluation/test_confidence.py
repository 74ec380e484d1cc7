"""Reliability, risk and coverage of a result's own columns."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tagger.evaluation.confidence import AttributeConfidence, Bin, Confidences, Point

HAT, BAG = "hat", "bag"


def result(rows: list[tuple[str | None, str | None, float | None, str | None]]) -> pa.Table:
    """Rows of a result: truth, label, confidence, and why they are in review."""
    truth, label, confidence, reason = zip(*rows, strict=True)
    status = ["error" if one is None else "review" if why else "tagged" for one, why in zip(label, reason, strict=True)]
    return pa.table(
        {
            "truth": pa.array(truth, pa.string()),
            "kind_label": pa.array(label, pa.string()),
            "kind_confidence": pa.array(confidence, pa.float32()),
            "tag_status": status,
            "tag_reason": pa.array(reason, pa.string()),
        }
    )


def measure(*tables: pa.Table) -> AttributeConfidence:
    confidences = Confidences({"kind": ("truth", (HAT, BAG))})
    for table in tables:
        confidences.update(table)
    return confidences.result()["kind"]


def test_the_figures_of_a_small_example():
    first = result(
        [
            (HAT, HAT, 0.96, None),
            (BAG, HAT, 0.94, None),
            (BAG, BAG, 0.5, "low-confidence: kind 0.500 is below 0.9"),
            (None, BAG, 0.1, None),  # no truth
            ("cape", BAG, 0.2, None),  # truth that is no label
            (HAT, None, None, "missing: no file"),
        ]
    )
    second = result([(BAG, HAT, 0.25, "low-confidence: kind_of 0.100 is below 0.5")])  # of another attribute
    measured = measure(first, second)
    assert measured.labelled_rows == 4
    assert [(one.rows, one.accuracy) for one in measured.bins] == [(1, 0.0), (1, 1.0), (2, 0.5)]
    assert measured.bins[-1] == Bin(low=14 / 15, high=1.0, rows=2, confidence=pytest.approx(0.95), accuracy=0.5)
    assert measured.ece == pytest.approx((0.25 + 0.5 + 2 * 0.45) / 4)
    assert [(point.coverage, point.risk) for point in measured.risk_coverage] == [(0.25, 0), (0.5, 0.5), (0.75, 1 / 3), (1, 0.5)]
    assert measured.accepted == Point(coverage=0.75, risk=pytest.approx(2 / 3), confidence=0.25)


def test_without_a_labelled_row_there_are_no_figures():
    nothing = AttributeConfidence(labelled_rows=0, ece=None, bins=(), risk_coverage=(), accepted=None)
    assert measure() == nothing
    assert measure(result([(None, HAT, 0.9, None), (HAT, None, None, "timeout: too slow")])) == nothing


def test_where_every_row_goes_to_review_nothing_is_accepted():
    every = [(HAT, HAT, 1.0, "low-confidence: kind 1.000, and review_below is 1")]
    assert measure(result(every)).accepted == Point(coverage=0.0, risk=None, confidence=None)


@given(st.lists(st.tuples(st.floats(0, 1, width=32), st.booleans()), min_size=1, max_size=60), st.integers(1, 60))
@settings(deadline=None)
def test_batches_change_nothing_and_all_rows_are_in_the_bins(rows: list[tuple[float, bool]], cut: int):
    table = result([(HAT, HAT if right else BAG, confidence, None) for confidence, right in rows])
    whole = measure(table)
    assert measure(*(table[start : start + cut] for start in range(0, len(table), cut))) == whole
    assert sum(one.rows for one in whole.bins) == len(rows)
    assert 0 <= whole.ece <= 1
    assert whole.risk_coverage[-1].risk == pytest.approx(1 - np.mean([right for _, right in rows]))
