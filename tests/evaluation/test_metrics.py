"""Counting shard by shard gives what scikit-learn gives over all rows."""

from __future__ import annotations

import json
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import accuracy_score, confusion_matrix, f1_score

from tagger.evaluation.metrics import AttributeEvaluation, Evaluator

LABELS = ("hat", "bag", "shoes")


def tagged(columns: dict[str, Any], source: str = "clip") -> pa.Table:
    """Rows of a result, as far as they are evaluated."""
    table = pa.table(columns)
    return table.append_column("kind_source", pa.array([source] * len(table), pa.string()))


def evaluate(truth: list[str | None], tags: list[str | None], cut: int = 1_000) -> AttributeEvaluation:
    evaluator = Evaluator({"kind": ("truth", LABELS)})
    table = tagged({"truth": pa.array(truth, pa.string()), "kind_label": pa.array(tags, pa.string())})
    for start in range(0, len(table), cut):
        evaluator.update(table.slice(start, cut))
    return evaluator.result().attributes["kind"]


@given(
    rows=st.lists(st.tuples(st.sampled_from([*LABELS, None, "gown"]), st.sampled_from([*LABELS, None])), max_size=60),
    cut=st.integers(1, 60),
)
@settings(deadline=None)
def test_every_row_is_counted_once_and_scored_as_scikit_learn_does(rows: list[tuple[str | None, str | None]], cut: int):
    evaluation = evaluate([truth for truth, _ in rows], [tag for _, tag in rows], cut)
    scored = [(truth, tag) for truth, tag in rows if truth in LABELS and tag is not None]
    assert evaluation.labelled_rows == len(scored)
    assert evaluation.error_rows == sum(truth in LABELS and tag is None for truth, tag in rows)
    assert evaluation.unknown_rows == evaluation.unknown_truth.get("gown", 0) == sum(truth == "gown" for truth, _ in rows)
    if not scored:
        assert (evaluation.accuracy, evaluation.macro_f1, evaluation.weighted_f1) == (None, None, None)
        return
    truths, tags = zip(*scored, strict=True)
    assert evaluation.accuracy == pytest.approx(accuracy_score(truths, tags))
    assert evaluation.macro_f1 == pytest.approx(f1_score(truths, tags, average="macro", zero_division=0))
    assert evaluation.weighted_f1 == pytest.approx(f1_score(truths, tags, average="weighted", zero_division=0))
    assert evaluation.confusion_matrix == confusion_matrix(truths, tags, labels=LABELS).tolist()


def test_the_text_is_a_small_table():
    evaluator = Evaluator({"kind": ("truth", LABELS)})
    truth = ["hat"] * 3 + ["shoes", "gown", "gown", "cape", None, "hat"]
    tags = ["hat", "hat", "bag", "shoes", "hat", "hat", "hat", "hat", None]
    evaluator.update(tagged({"truth": truth, "kind_label": tags}))
    assert evaluator.result().to_text() == (
        "kind: accuracy 75.0% (30.1% to 95.4%), macro F1 0.600 (0.333 to 1.000), weighted F1 0.850 on 4 labelled rows\n"
        "         precision  recall     F1  support\n"
        "  hat        1.000   0.667  0.800        3\n"
        "  bag        0.000   0.000  0.000        0\n"
        "  shoes      1.000   1.000  1.000        1\n"
        "  confusion matrix (rows: truth, columns: tags, in the same order)\n"
        "         1  2  3\n"
        "  hat    2  1  0  1\n"
        "  bag    0  0  0  2\n"
        "  shoes  0  0  1  3\n"
        "  labelled rows with errors, not in these figures: 1\n"
        "  rows whose truth value is no label, not in these figures: 3 (2 gown, 1 cape)"
    )


def test_labels_and_values_that_differ_only_in_their_secrets_keep_their_rows():
    labels = [f"https://shop/hat?key={number}" for number in range(3)]
    evaluator = Evaluator({"kind": ("truth", labels)})
    evaluator.update(tagged({"truth": [*labels, "s3://b?1", "s3://b?2"], "kind_label": [*labels, labels[0], labels[0]]}))
    evaluation = evaluator.result()
    text = evaluation.to_text()
    assert text.count("  https://shop/hat?…      1.000   1.000  1.000        1\n") == 3
    assert "  https://shop/hat?…  0  0  1  3\n" in text
    assert "not in these figures: 2 (1 s3://b?…, 1 s3://b?…)" in text
    as_json = json.loads(evaluation.to_json())["kind"]
    assert (len(as_json["per_class"]), as_json["unknown_truth"]) == (3, {"s3://b?…": 1, "s3://b?… (2)": 1})


def test_nothing_to_evaluate_is_said():
    evaluator = Evaluator({"kind": ("truth", LABELS)})
    evaluator.update(tagged({"truth": pa.array([None], pa.string()), "kind_label": ["hat"]}))
    assert evaluator.result().to_text() == "kind: no row with a truth value in truth was tagged, nothing to evaluate"


def test_many_labels_show_the_commonest_confusions():
    labels = tuple(f"label {number}" for number in range(20))
    evaluator = Evaluator({"kind": ("truth", labels)})
    evaluator.update(tagged({"truth": labels, "kind_label": ["label 3"] * 18 + ["label 18", "label 18"]}))
    text = evaluator.result().to_text()
    assert "  label 0 tagged label 3: 1\n" in text
    assert "confusion matrix" not in text


def test_truth_of_a_dictionary_column_is_read(tmp_path):
    evaluator = Evaluator({"kind": ("truth", LABELS)})
    evaluator.update(tagged({"truth": pa.array(["hat", "bag"]).dictionary_encode(), "kind_label": ["hat", "hat"]}))
    assert evaluator.result().attributes["kind"].accuracy == 0.5


def test_the_different_unknown_values_that_are_kept_are_bounded():
    evaluation = evaluate([f"stranger {number}" for number in range(5_000)], ["hat"] * 5_000)
    assert (evaluation.unknown_rows, len(evaluation.unknown_truth)) == (5_000, 1_000)


def test_rows_are_counted_by_who_decided():
    evaluator = Evaluator({"kind": ("truth", ("hat", "bag"))})
    evaluator.update(tagged({"truth": ["hat", "bag", "bag"], "kind_label": ["hat", "bag", "hat"]}))
    evaluator.update(tagged({"truth": ["hat"], "kind_label": ["bag"]}, "resnet18"))
    evaluation = evaluator.result()
    assert evaluation.attributes["kind"].by_source == {
        "clip": {"labelled_rows": 3, "accuracy": 2 / 3},
        "resnet18": {"labelled_rows": 1, "accuracy": 0.0},
    }
    assert "  decided by resnet18: 1 rows, accuracy 0.0%" in evaluation.to_text()
