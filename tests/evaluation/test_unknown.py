"""How well rows that fit no label are told from the others."""

from __future__ import annotations

import pyarrow as pa
import pytest

from tagger.evaluation.metrics import Evaluator
from tagger.evaluation.unknown import UnknownEvaluation


def test_scores_are_counted_shard_by_shard_and_rejected_rows_are_no_errors():
    table = pa.table(
        {
            "truth": ["hat", "bag", "hat", "gown", "gown", "bag"],
            "kind_label": ["hat", "hat", None, None, "bag", None],
            "kind_source": ["clip"] * 5 + [None],
            "kind_known": pa.array([0.9, 0.8, 0.3, 0.2, 0.5, None], pa.float32()),
        }
    )
    evaluator = Evaluator({"kind": ("truth", ("hat", "bag"))}, with_unknown=["kind"])
    for start in range(len(table)):
        evaluator.update(table.slice(start, 1))
    found = evaluator.result().attributes["kind"]
    assert (found.labelled_rows, found.rejected_rows, found.error_rows, found.unknown_rows) == (2, 1, 1, 2)
    # Of the 6 pairs of a known row and a stranger one is in the wrong order: 0.3 and 0.5.
    assert found.unknown == UnknownEvaluation(
        score="known",
        known=3,
        strangers=2,
        auroc=pytest.approx(5 / 6),
        fpr_at_95_recall=0.5,
        found=0.5,
        known_to_review=pytest.approx(1 / 3),
    )


def test_without_strangers_there_is_nothing_to_tell():
    table = pa.table({"truth": ["hat"], "kind_label": ["hat"], "kind_source": ["clip"], "kind_confidence": [0.5]})
    evaluator = Evaluator({"kind": ("truth", ("hat", "bag"))})
    evaluator.update(table)
    assert evaluator.result().attributes["kind"].unknown is None
