"""Drift: what shifts by more than chance is told, what does not is not."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from tagger.catalog.embedding_moments import keep_moments
from tagger.catalog.schemas import EMBEDDINGS_KEY, result_schema
from tagger.core.moments import Moments
from tagger.evaluation.changes import NotCompared
from tagger.evaluation.distributions import Distributions, read_distributions
from tagger.evaluation.drift import Drift, Shift, compare_nights, stability_index

LABELS = ("hat", "bag", "shoes")
MODEL = {"model": {"fingerprint": "f1"}}


def night(
    labels: np.ndarray | list[int],
    confidence: Any = 0.9,
    errors: int = 0,
    pictures: Any = None,
    names: tuple[str, ...] = LABELS,
    model: Any = MODEL,
) -> pa.Table:
    """A part of a result: the numbers of its rows' labels, their confidences and embeddings, and then error rows."""
    rows = len(labels)
    described = {"attributes": [{"name": "kind", "labels": names, "truth_column": None}], **model}
    schema = result_schema(pa.schema([("key", pa.int64())]), ["kind"], described)
    columns = {
        "key": pa.array(range(rows + errors)),
        "kind_label": pa.array([*(names[one] for one in labels), *[None] * errors], pa.string()),
        "kind_confidence": pa.array([*np.broadcast_to(confidence, rows).tolist(), *[None] * errors], pa.float32()),
        "tag_status": pa.array(["tagged"] * rows + ["error"] * errors),
    }
    table = pa.table([columns.get(field.name, pa.nulls(rows + errors, field.type)) for field in schema], schema=schema)
    if pictures is None:
        return table
    return table.replace_schema_metadata({**schema.metadata, EMBEDDINGS_KEY: Moments.of(pictures).to_json()})


def counted(*parts: pa.Table) -> Distributions:
    found = Distributions({"kind": LABELS})
    for part in parts:
        found.update(part)
    return found


def compare(before: pa.Table, now: pa.Table) -> Drift:
    return compare_nights(counted(before), counted(now))


def shift(drift: Drift, figure: str) -> Shift:
    return next(one for one in drift.shifts if one.figure == figure)


def drawn(rows: int, *shares: float) -> np.ndarray:
    """Numbers of labels in exactly these shares."""
    return np.repeat(np.arange(len(shares)), np.round(np.array(shares) * rows).astype(int))


def test_ten_points_between_labels_are_told_and_named():
    drift = compare(night(drawn(5000, 0.5, 0.3, 0.2)), night(drawn(5000, 0.4, 0.38, 0.22)))
    labels = shift(drift, "labels")
    expected = 0.1 * np.log(0.5 / 0.4) + 0.08 * np.log(0.38 / 0.3) + 0.02 * np.log(0.22 / 0.2)
    assert labels.size == pytest.approx(expected, rel=1e-3)
    # The p-value is of the only test that finds anything, and so corrected for all three.
    plain = stats.chi2_contingency([[2500, 1500, 1000], [2000, 1900, 1100]], correction=False).pvalue
    assert labels.p_value == pytest.approx(3 * plain)
    assert drift.labels == {"kind": {"hat": (2500, 2000), "bag": (1500, 1900), "shoes": (1000, 1100)}}
    assert drift.warnings() == [
        "kind: the shares of labels have shifted (population stability index 0.043): hat 50.0% to 40.0%, bag 30.0% to 38.0%, "
        "shoes 20.0% to 22.0%"
    ]


def test_the_same_points_of_a_small_night_are_chance():
    drift = compare(night(drawn(50, 0.5, 0.3, 0.2)), night(drawn(50, 0.4, 0.4, 0.2)))
    assert drift.warnings() == []
    assert shift(drift, "labels").size > 0.02


def test_a_million_rows_make_no_alarm_of_a_small_shift():
    million = counted(night([0]))
    million.rows, million.labels["kind"] = 1_000_000, np.array([500_000, 300_000, 200_000])
    other = counted(night([0]))
    other.rows, other.labels["kind"] = 1_000_000, np.array([505_000, 296_000, 199_000])
    found = shift(compare_nights(million, other), "labels")
    assert (found.significant, found.alarm) == (True, False)


def test_rare_labels_are_tested_as_one():
    names = tuple(f"label {number}" for number in range(40))
    tables = [night([0] * 500 + list(range(1, 40)) * times, names=names) for times in (1, 1, 4)]
    first, same, more = (Distributions({"kind": names}) for _ in tables)
    for found, table in zip((first, same, more), tables, strict=True):
        found.update(table)
    assert shift(compare_nights(first, same), "labels").p_value == 1
    assert shift(compare_nights(first, more), "labels").alarm


def test_confidence_is_told_by_its_distribution():
    rng = np.random.default_rng(0)
    before, now = rng.beta(8, 2, 3000), rng.beta(8, 2, 3000) * 0.9
    drift = compare(night(drawn(3000, 1, 0, 0), before), night(drawn(3000, 1, 0, 0), now))
    confidence = shift(drift, "confidence")
    exact = stats.ks_2samp(before, now)
    assert confidence.size == pytest.approx(exact.statistic, abs=0.02)
    assert confidence.size <= exact.statistic
    assert (confidence.before, confidence.now) == (pytest.approx(before.mean(), 1e-5), pytest.approx(now.mean(), 1e-5))
    assert drift.warnings() == [f"kind: confidence has shifted: {before.mean():.3f} on average before, {now.mean():.3f} now"]
    assert [sum(rows) for rows in drift.confidences["kind"]] == [3000, 3000]


def test_more_errors_are_told_and_fewer_are_not():
    few, many = night(drawn(900, 1, 0, 0), errors=5), night(drawn(900, 1, 0, 0), errors=60)
    assert compare(few, many).warnings() == ["error rows have become more: 0.55% before, 6.25% now"]
    assert compare(many, few).warnings() == []
    assert shift(compare(few, many), "errors").size == pytest.approx(60 / 960 - 5 / 905)


def test_pictures_are_told_by_the_mean_of_their_embeddings():
    rng = np.random.default_rng(0)
    before, now = rng.normal(0, 1, (400, 64)), rng.normal(0, 1, (300, 64))
    now[:, 7] += 0.8
    labels = drawn(400, 1, 0, 0), drawn(300, 1, 0, 0)
    drift = compare(night(labels[0], pictures=before), night(labels[1], pictures=now))
    pictures = shift(drift, "embeddings")
    assert pictures.size == pytest.approx(0.8, abs=0.2)
    assert pictures.p_value < 1e-6
    assert drift.warnings() == [f"the pictures have shifted: an embedding's mean by {pictures.size:.2f} standard deviations"]
    mean = before.mean(0), now.mean(0)
    assert pictures.now == pytest.approx(mean[0] @ mean[1] / np.linalg.norm(mean[0]) / np.linalg.norm(mean[1]))


def test_coordinates_that_do_not_vary_are_no_shift():
    same = np.ones((30, 4), np.float32)
    found = shift(compare(night([0] * 30, pictures=same), night([0] * 30, pictures=same)), "embeddings")
    assert (found.size, found.p_value, found.now) == (0, 1, pytest.approx(1))


@pytest.mark.parametrize(
    ("before", "now", "note"),
    [
        (night([0], pictures=np.ones((1, 2))), night([0], pictures=np.ones((1, 2))), "too few rows to tell"),
        (night([0]), night([0], pictures=np.ones((1, 2))), "the embeddings of all rows of the earlier result are not known"),
        (night([0], pictures=np.ones((1, 2))), night([0]), "the embeddings of all rows of this result are not known"),
        (
            night([0], pictures=np.ones((1, 2)), model={"model": {"fingerprint": "f2"}}),
            night([0], pictures=np.ones((1, 2))),
            "the earlier result is another model's",
        ),
    ],
)
def test_embeddings_that_cannot_be_compared_say_why(before: pa.Table, now: pa.Table, note: str):
    assert shift(compare(before, now), "embeddings") == Shift(figure="embeddings", note=note)


def test_a_part_without_moments_leaves_the_whole_without():
    part = night([0] * 5, pictures=np.ones((5, 2)))
    assert counted(part, part).embeddings.rows == 10
    assert counted(part, night([0]), part).embeddings is None


def test_other_labels_are_no_drift_and_the_same_in_another_order_are_compared():
    now = counted(night(drawn(500, 0.8, 0.1, 0.1)))
    other = Distributions({"kind": ("hat", "cape")})
    assert shift(compare_nights(other, now), "labels").note == "its labels have changed since"
    assert compare_nights(other, now).labels["kind"]["cape"] == (0, 0)
    assert shift(compare_nights(Distributions({}), now), "labels").note == "the earlier result does not have it"
    turned = Distributions({"kind": LABELS[::-1]})
    turned.update(night(drawn(500, 0.8, 0.1, 0.1)))
    assert shift(compare_nights(turned, now), "labels").size == 0


def test_without_rows_or_an_earlier_result_nothing_is_told():
    empty = counted()
    assert compare_nights(empty, empty).warnings() == []
    assert {one.note for one in compare_nights(empty, empty).shifts[:3]} == {"too few rows to tell"}
    assert compare_nights(NotCompared("there is none"), empty) == Drift(missing="there is none")


@given(st.lists(st.integers(0, 400), min_size=2, max_size=12), st.randoms(use_true_random=False))
@settings(deadline=None)
def test_the_stability_index_is_symmetric_and_0_for_the_same_counts(counts: list[int], random: Any):
    first, second = np.array(counts), np.array(random.sample(counts, len(counts)))
    assert stability_index(first, first) == 0
    assert stability_index(first, second) == pytest.approx(stability_index(second, first))
    assert stability_index(first, second) >= 0


def test_a_hundred_small_nights_without_a_shift_raise_no_alarm():
    rng = np.random.default_rng(5)
    alarms = 0
    for number in range(100):
        rows = int(rng.integers(50, 400))
        tables = []
        for _ in range(2):
            pictures = rng.normal(0.3, 1, (rows, 32))
            label = rng.choice(3, rows, p=(0.6, 0.3, 0.1))
            tables.append(night(label, rng.beta(5, 2, rows), number % 4, pictures))
        alarms += bool(compare(*tables).warnings())
    assert alarms <= 5


def test_a_result_that_was_written_is_counted_as_its_parts_were(tmp_path: Path):
    parts = [night(drawn(300, 0.5, 0.3, 0.2), 0.7, errors=4, pictures=np.ones((300, 2))) for _ in range(2)]
    found, result = counted(*parts), tmp_path / "tagged.parquet"
    (tmp_path / "tagged.run").mkdir()
    pq.write_table(pa.concat_tables(parts).replace_schema_metadata(night([]).schema.metadata), result)
    keep_moments(result, found.embeddings)
    again = read_distributions(result, ["kind", "colour"])
    assert isinstance(again, Distributions)
    assert (again.rows, again.errors, again.weights, again.embeddings.rows) == (608, 8, "f1", 600)
    assert again.labels["kind"].tolist() == found.labels["kind"].tolist()
    assert again.confidences["kind"].tolist() == found.confidences["kind"].tolist()
    # Of a result that was replaced since, the moments are not known; of one that cannot be read, nothing is.
    pq.write_table(parts[0].drop_columns(["key"]), result)
    assert read_distributions(result, ["kind"]).embeddings is None
    result.write_bytes(b"no Parquet")
    found = read_distributions(result, ["kind"])
    assert isinstance(found, NotCompared)
    assert (found.reason[:34], found.unreadable) == ("the earlier result cannot be read:", True)
