"""What a calibration brings to an attribute: thresholds, and the promise that they keep."""

from __future__ import annotations

from pathlib import Path

import pytest

from tagger.core.errors import ConfigError
from tagger.inference.artifacts import Artifacts, guarantees_of, read_calibrations, set_threshold_of, with_review
from tagger.settings.attributes import Attribute, Label, taxonomy_hash
from tagger.settings.schema import Settings
from tagger.tagging.calibration import Calibration, CalibrationFile, PredictionSets, Review

KIND = Attribute(name="kind", labels=("hat", "bag"))
PROMISED = {"target": 0.95, "confidence": 0.9, "rows": 400}
WITH_SETS = KIND.model_copy(update={"prediction_sets": 0.9})
SETS = PredictionSets(coverage=0.9, threshold=0.25, fallback_threshold=0.125, rows=400, mean_size=1.5)


def calibration(
    review_below: float | None = None,
    by_label: dict[str, float] | None = None,
    promised: bool = True,
    sets: PredictionSets | None = None,
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
        prediction_sets=sets,
        risk_coverage=[],
        fitted_rows=400,
        held_out_rows=400,
    )


def test_an_attribute_takes_the_threshold_of_its_calibration():
    found = with_review(KIND, calibration(0.8))
    assert found.thresholds == (0.8, 0.8)
    assert guarantees_of(found, calibration(0.8), False) == {"precision": {**PROMISED, "per_label": False}}
    assert guarantees_of(found, calibration(0.8), fallback_alone=True) == {}


def test_a_label_takes_its_own_and_one_without_goes_to_review():
    chosen = calibration(by_label={"bag": 0.7})
    found = with_review(KIND, chosen)
    assert found.thresholds == (1.0, 0.7)
    assert guarantees_of(found, chosen, False) == {"precision": {**PROMISED, "per_label": True}}
    assert len({taxonomy_hash([one]) for one in (KIND, found, with_review(KIND, calibration(by_label={"bag": 0.8})))}) == 3


@pytest.mark.parametrize("chosen", [calibration(0.8), calibration(by_label={"hat": 0.8, "bag": 0.8})])
def test_thresholds_in_the_settings_go_first_and_have_no_promise(chosen: Calibration):
    own = KIND.model_copy(update={"review_below": 0.5})
    assert with_review(own, chosen).thresholds == (0.5, 0.5)
    assert guarantees_of(with_review(own, chosen), chosen, False) == {}
    of_a_label = KIND.model_copy(update={"labels": (Label(name="hat", review_below=0.5), Label(name="bag"))})
    assert with_review(of_a_label, chosen).thresholds == (0.5, 0.8)
    assert guarantees_of(with_review(of_a_label, chosen), chosen, False) == {}


def test_nothing_is_promised_where_nothing_was_chosen():
    assert with_review(KIND, calibration()).thresholds == (0.0, 0.0)
    for none in (calibration(), calibration(promised=False), None):
        assert guarantees_of(KIND, none, False) == {}


def test_sets_are_promised_of_what_decides():
    chosen = calibration(sets=SETS, promised=False)
    assert [set_threshold_of(WITH_SETS, chosen, alone) for alone in (False, True)] == [0.25, 0.125]
    for alone in (False, True):
        assert guarantees_of(WITH_SETS, chosen, alone) == {"sets": {"coverage": 0.9, "rows": 400}}
    assert (set_threshold_of(KIND, chosen, False), guarantees_of(KIND, chosen, False)) == (None, {})


def test_sets_of_too_few_rows_have_all_labels_and_no_promise():
    chosen = calibration(sets=SETS.model_copy(update={"threshold": None}), promised=False)
    assert (set_threshold_of(WITH_SETS, chosen, False), guarantees_of(WITH_SETS, chosen, False)) == (0.0, {})


@pytest.mark.parametrize(
    ("sets", "message"),
    [
        (None, "expected its sets in calibration .*c.json, found none; run `tagger calibrate` again, with this setting"),
        (SETS.model_copy(update={"coverage": 0.8}), "expected its sets in calibration .*c.json, found those of 0.8; run"),
    ],
)
def test_a_calibration_without_the_wanted_sets_is_refused(sets: PredictionSets | None, message: str, tmp_path: Path):
    file = CalibrationFile(manifest="", seed=0, attributes={"kind": calibration(sets=sets)})
    (tmp_path / "c.json").write_text(file.model_dump_json())
    attribute = WITH_SETS.model_copy(update={"calibration": str(tmp_path / "c.json")})
    with pytest.raises(ConfigError, match=f'attribute "kind": prediction_sets = 0.9: {message}'):
        read_calibrations(Settings(), [attribute], Artifacts())
    assert read_calibrations(Settings(), [attribute.model_copy(update={"prediction_sets": None})], Artifacts())


def test_sets_want_a_calibration():
    with pytest.raises(
        ConfigError, match="expected a calibration, found none; run `tagger calibrate` with this setting, and name"
    ):
        read_calibrations(Settings(), [WITH_SETS], Artifacts())
