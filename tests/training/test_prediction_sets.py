"""The thresholds of prediction sets, of what decides and of the fallback alone."""

from __future__ import annotations

import logging

import numpy as np
import pytest

from tagger.tagging.calibration import PredictionSets
from tagger.training.prediction_sets import choose_sets

DECIDED = np.array([[0.9, 0.05, 0.05], [0.5, 0.3, 0.2], [0.1, 0.8, 0.1], [0.25, 0.25, 0.5]], np.float32)
TRUTH = np.array([0, 1, 1, 1])  # whose probabilities are 0.9, 0.3, 0.8 and 0.25


def test_each_system_has_its_threshold(caplog: pytest.LogCaptureFixture):
    caplog.set_level(logging.INFO)
    fallback = DECIDED[:, [1, 0, 2]]  # the truth's are 0.05, 0.5, 0.1 and 0.25
    found = choose_sets(DECIDED, fallback, TRUTH, 0.8, "m")  # the fourth highest of four
    assert found.threshold == pytest.approx(0.25, rel=1e-3)
    assert found.fallback_threshold == pytest.approx(0.05, rel=1e-3)
    assert (found.rows, found.coverage, found.mean_size) == (4, 0.8, (1 + 2 + 1 + 3) / 4)
    assert caplog.messages == []


def test_rows_that_are_too_few_promise_nothing(caplog: pytest.LogCaptureFixture):
    found = choose_sets(DECIDED, None, TRUTH, 0.9, 'm: attribute "kind"')
    assert found == PredictionSets(coverage=0.9, threshold=None, fallback_threshold=None, rows=4, mean_size=3)
    assert caplog.messages == [
        'm: attribute "kind": prediction_sets 0.9: expected at least 9 held-out rows, half of the labelled ones, found 4; every '
        "set has all labels, and nothing is promised; label 10 more"
    ]
