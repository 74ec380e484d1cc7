"""Gates: what is wanted, what was found, and whether enough rows say so."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest

from tagger.evaluation.changes import Changed
from tagger.evaluation.drift import NO_EARLIER, Drift, Shift
from tagger.evaluation.gates import GATES, Figures, GateResult, judge
from tagger.evaluation.metrics import Evaluation, _Count, _evaluate
from tagger.settings.schema import GateSettings


def judged(
    gate: str, wanted: float, matrix: list[list[int]] | None = None, unknown: int = 0, rejected: int = 0, **figures: object
) -> GateResult:
    """The one result of one gate, of an attribute with this confusion matrix, rows whose truth is no label and rejected ones."""
    evaluation = None
    if matrix is not None:
        labels = tuple(f"label {number}" for number in range(len(matrix)))
        count = _Count("truth", labels, np.array(matrix), rejected=rejected)
        count.reader.read(pa.array(["hat"] * unknown, pa.string()))
        evaluation = Evaluation({"kind": _evaluate(count)})
    known = {"rows": 1000, "errors": 0, "review": 0, "evaluation": evaluation, "changed": NO_EARLIER}
    known |= {"drift": Drift(missing=NO_EARLIER), **figures}
    (result,) = judge({gate: wanted}, Figures(**known), min_truth_in_labels=0.5)
    return result


def shifted(size: float | None, p_value: float | None, note: str | None = None) -> Drift:
    """A night on which the labels of "kind" have shifted, and more."""
    shift = Shift(figure="labels", attribute="kind", size=size, p_value=p_value, note=note)
    return Drift(shifts=(shift, Shift(figure="errors", size=0.5, p_value=0.0)))


@pytest.mark.parametrize(
    ("result", "passed", "line"),
    [
        (
            judged("min_accuracy", 0.95, [[90, 10], [0, 100]]),
            True,
            "gate min_accuracy, kind: expected at least 95%, found 95% on 200 rows; rests on too few rows to tell (95 % interval "
            "91.04% to 97.26%)",
        ),
        (
            judged("min_accuracy", 0.95, [[89, 11], [0, 100]]),
            False,
            "gate min_accuracy, kind: expected at least 95%, found 94.5% on 200 rows; rests on too few rows to tell (95 % "
            "interval 90.42% to 96.9%)",
        ),
        (
            judged("min_accuracy", 0.5, [[90, 10], [0, 100]]),
            True,
            "gate min_accuracy, kind: expected at least 50%, found 95% on 200 rows",
        ),
        (
            judged("min_accuracy", 0.0, [[0, 0], [0, 0]]),
            False,
            "gate min_accuracy, kind: expected at least 0%, found nothing to judge; no row with ground truth was tagged",
        ),
        (
            judged("min_accuracy", 0.0, [[0, 0], [0, 0]], unknown=5),
            False,
            "gate min_accuracy, kind: expected at least 0%, found nothing to judge; no row with ground truth was tagged; 5 of 5 "
            "truth values fit no label and are left out; expected at least 50% to fit one (min_truth_in_labels)",
        ),
        (
            judged("min_accuracy", 0.5, [[90, 10], [0, 100]], unknown=200),
            True,
            "gate min_accuracy, kind: expected at least 50%, found 95% on 200 rows; 200 of 400 truth values fit no label and are "
            "left out",
        ),
        (
            judged("min_macro_f1", 0.9, [[100, 0], [0, 100]], unknown=201),
            False,
            "gate min_macro_f1, kind: expected at least 0.9, found 1 on 200 rows; 201 of 401 truth values fit no label and are "
            "left out; expected at least 50% to fit one (min_truth_in_labels)",
        ),
        (
            judged("min_accuracy", 0.95, [[90, 10], [0, 100]], unknown=1),
            True,
            "gate min_accuracy, kind: expected at least 95%, found 95% on 200 rows; 1 of 201 truth values fit no label and are "
            "left out; rests on too few rows to tell (95 % interval 91.04% to 97.26%)",
        ),
        (
            judged("min_accuracy", 0.5, [[90, 10], [0, 100]], rejected=200),
            True,
            "gate min_accuracy, kind: expected at least 50%, found 95% on 200 rows; 200 of 400 rows whose truth is a label were "
            "taken for unknown and are left out",
        ),
        (
            judged("min_macro_f1", 0.5, [[100, 0], [0, 100]], rejected=201),
            False,
            "gate min_macro_f1, kind: expected at least 0.5, found 1 on 200 rows; 201 of 401 rows whose truth is a label were "
            "taken for unknown and are left out; expected at most 50%",
        ),
        (
            judged("min_accuracy", 0.0, [[0, 0], [0, 0]], rejected=5),
            False,
            "gate min_accuracy, kind: expected at least 0%, found nothing to judge; no row with ground truth was tagged; 5 of 5 "
            "rows whose truth is a label were taken for unknown and are left out; expected at most 50%",
        ),
        (
            judged("min_labelled_rows", 3, [[2, 0], [0, 1]], unknown=100),
            True,
            "gate min_labelled_rows, kind: expected at least 3, found 3 on 1000 rows",
        ),
        (
            judged("min_labelled_rows", 3, [[2, 0], [0, 1]]),
            True,
            "gate min_labelled_rows, kind: expected at least 3, found 3 on 1000 rows",
        ),
        (
            judged("min_labelled_rows", 4, [[2, 0], [0, 1]]),
            False,
            "gate min_labelled_rows, kind: expected at least 4, found 3 on 1000 rows",
        ),
        (judged("max_error_rate", 0.01, errors=100), False, "gate max_error_rate: expected at most 1%, found 10% on 1000 rows"),
        (judged("max_error_rate", 0.0, errors=0), True, "gate max_error_rate: expected at most 0%, found 0% on 1000 rows"),
        (
            judged("max_error_rate", 0.0, rows=0),
            True,
            "gate max_error_rate: expected at most 0%, found nothing to judge; there are no rows",
        ),
        (
            judged("max_errors", 2, errors=3),
            False,
            "gate max_errors: expected at most 2, found 3 on 1000 rows; rests on too few rows to tell (95 % interval 1 to 9)",
        ),
        (
            judged("max_review_rate", 0.4, errors=500, review=250),
            False,
            "gate max_review_rate: expected at most 40%, found 50% on 500 rows",
        ),
        (
            judged("max_review_rate", 0.4, errors=1000),
            True,
            "gate max_review_rate: expected at most 40%, found nothing to judge; no row was tagged",
        ),
        (
            judged("max_changed_labels", 0.05, changed={"kind": Changed(400, 100)}),
            False,
            "gate max_changed_labels, kind: expected at most 5%, found 25% on 400 rows",
        ),
        (
            judged("max_changed_labels", 0.05, changed={"kind": Changed(0, 0)}),
            True,
            "gate max_changed_labels, kind: expected at most 5%, found nothing to judge; no row has a label in both results",
        ),
        (
            judged("max_changed_labels", 0.05),
            True,
            f"gate max_changed_labels: expected at most 5%, found nothing to judge; {NO_EARLIER}",
        ),
        (
            judged("max_psi", 0.1, drift=shifted(0.2, 0.001)),
            False,
            "gate max_psi, kind: expected at most 0.1, found 0.2 on 1000 rows",
        ),
        (
            judged("max_psi", 0.1, drift=shifted(0.2, 0.02)),
            True,
            "gate max_psi, kind: expected at most 0.1, found 0.2 on 1000 rows; rests on too few rows to tell",
        ),
        (
            judged("max_psi", 0.1, drift=shifted(0.05, 0.001)),
            True,
            "gate max_psi, kind: expected at most 0.1, found 0.05 on 1000 rows",
        ),
        (
            judged("max_psi", 0.1, drift=shifted(None, None, "its labels have changed since")),
            True,
            "gate max_psi, kind: expected at most 0.1, found nothing to judge; its labels have changed since",
        ),
        (
            judged("max_psi", 0.1),
            True,
            f"gate max_psi: expected at most 0.1, found nothing to judge; {NO_EARLIER}",
        ),
    ],
    ids=lambda value: value.gate if isinstance(value, GateResult) else None,
)
def test_a_gate_says_what_was_wanted_and_found_and_whether_the_rows_tell(result: GateResult, passed: bool, line: str):
    assert (result.passed, result.to_text()) == (passed, line)


def test_every_gate_that_can_be_set_has_a_measure_of_its_own():
    assert GATES.keys() == GateSettings.model_fields.keys() - {"min_truth_in_labels"}
    assert len({gate.measure for gate in GATES.values()}) == len(GATES)


def test_a_gate_without_a_measure_is_not_judged_by_another():
    with pytest.raises(KeyError, match="max_drift"):
        judged("max_drift", 0.1, errors=1)


def test_the_intervals_of_shares_are_wilsons():
    """Newcombe 1998, table I: 81 of 263, and 0 of 20."""
    assert judged("max_error_rate", 0.5, errors=81, rows=263).interval == pytest.approx((0.2553, 0.3662), abs=5e-5)
    assert judged("max_error_rate", 0.5, errors=0, rows=20).interval == pytest.approx((0.0, 0.1611), abs=5e-5)


@pytest.mark.parametrize("matrix", [[[3, 0], [0, 2]], [[0, 3], [2, 0]]])
def test_a_few_rows_all_right_or_all_wrong_do_not_pretend_to_be_sure(matrix: list[list[int]]):
    result = judged("min_macro_f1", 0.9 if matrix[0][0] else 0.1, matrix)
    assert result.found == (1.0 if matrix[0][0] else 0.0)
    assert result.note == "rests on too few rows to tell"
    assert result.interval == judged("min_accuracy", 0.5, matrix).interval
