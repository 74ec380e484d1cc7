"""What a calibration brings to an attribute: thresholds, and the promise that they keep."""

from __future__ import annotations

import pytest

from tagger.inference.artifacts import guarantee_of, with_review
from tagger.settings.attributes import Attribute, Label, taxonomy_hash
from tagger.tagging.calibration import Calibration, Review

KIND = Attribute(name="kind", labels=("hat", "bag"))
PROMISED = {"target_precision": 0.95, "confidence": 0.9, "rows": 400}


def calibration(
    review_below: float | None = None, by_label: dict[str, float] | None = None, promised: bool = True
) -> Calibration:
    review = Review(accepted=300, precision=0.97, lower_bound=0.95, target=0.95, confidence=0.9, rows=400, by_label={})
    return Calibration(
        labels=KIND.label_names,
        mode="none",
        below=None,
        sources={},
        review_below=review_below,
        review_below_by_label=by_label or {},
        review=review if promised else None,
        risk_coverage=[],
        fitted_rows=400,
        held_out_rows=400,
    )


def test_an_attribute_takes_the_threshold_of_its_calibration():
    found = with_review(KIND, calibration(0.8))
    assert found.thresholds == (0.8, 0.8)
    assert guarantee_of(found, calibration(0.8)) == {**PROMISED, "per_label": False}


def test_a_label_takes_its_own_and_one_without_goes_to_review():
    chosen = calibration(by_label={"bag": 0.7})
    found = with_review(KIND, chosen)
    assert found.thresholds == (1.0, 0.7)
    assert guarantee_of(found, chosen) == {**PROMISED, "per_label": True}
    assert len({taxonomy_hash([one]) for one in (KIND, found, with_review(KIND, calibration(by_label={"bag": 0.8})))}) == 3


@pytest.mark.parametrize("chosen", [calibration(0.8), calibration(by_label={"hat": 0.8, "bag": 0.8})])
def test_thresholds_in_the_settings_go_first_and_have_no_promise(chosen: Calibration):
    own = KIND.model_copy(update={"review_below": 0.5})
    assert with_review(own, chosen).thresholds == (0.5, 0.5)
    assert guarantee_of(with_review(own, chosen), chosen) is None
    of_a_label = KIND.model_copy(update={"labels": (Label(name="hat", review_below=0.5), Label(name="bag"))})
    assert with_review(of_a_label, chosen).thresholds == (0.5, 0.8)
    assert guarantee_of(with_review(of_a_label, chosen), chosen) is None


def test_nothing_is_promised_where_nothing_was_chosen():
    assert with_review(KIND, calibration()).thresholds == (0.0, 0.0)
    for none in (calibration(), calibration(promised=False), None):
        assert guarantee_of(KIND, none) is None
