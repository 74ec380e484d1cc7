"""`tagger calibrate`: from labelled rows to a calibration file; the public Python API that the command line calls."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from tagger.core.errors import ManifestError
from tagger.settings.attributes import Attribute
from tagger.tagging.calibration import Calibration, Source

if TYPE_CHECKING:
    pass

log = logging.getLogger(__name__)


HELD_OUT = 0.5


class System(NamedTuple):
    """Log-probabilities float32 (N, K) of a source over the labelled rows, the temperature they were made with, its identity."""

    logits: NDArray[np.float32]
    temperature: float
    weights: str
    prompts: str


def _fit(
    name: str,
    attribute: Attribute,
    systems: Mapping[str, System],
    truth: NDArray[np.int64],
    mode: Any,
    below: float | None,
    precision: float | None,
    seed: int,
) -> Calibration:
    from tagger.evaluation.confidence import confidence_metrics, risk_coverage, threshold_for
    from tagger.tagging.decisions import more_confident
    from tagger.training.split import split
    from tagger.training.temperature import fit_temperature, softmax

    fitting, held = split(truth, HELD_OUT, seed)
    if not len(fitting) or not len(held):
        raise ManifestError(
            f'{name}: expected labelled, readable rows for attribute "{attribute.name}", at least two of a label, found '
            f"{len(truth)}; label more"
        )
    sources, calibrated = {}, []
    for source, system in systems.items():
        temperature = fit_temperature(system.logits[fitting], truth[fitting])
        before, after = softmax(system.logits), softmax(system.logits / temperature)
        calibrated.append(after)
        sources[source] = Source(
            temperature=temperature * system.temperature,
            weights=system.weights,
            prompts=system.prompts,
            before=confidence_metrics(before[held], truth[held]),
            after=confidence_metrics(after[held], truth[held]),
        )
    decided = calibrated[0]
    if mode == "low-confidence":
        second = (decided.max(1) < below) & more_confident(decided, calibrated[1])
        decided = np.where(second[:, None], calibrated[1], decided)
    review_below, review = None, dict[str, Any]()
    if precision is not None:
        review_below = threshold_for(decided[fitting], truth[fitting], precision)
        if review_below is None:
            log.warning(
                '%s: attribute "%s": no confidence reaches a precision of %g; every row goes to review',
                name,
                attribute.name,
                precision,
            )
            review_below = 1.0
        accepted = held[decided[held].max(1) >= review_below]
        review = {
            "wished_precision": precision,
            "precision": float((decided[accepted].argmax(1) == truth[accepted]).mean()) if len(accepted) else None,
            "review_rows": len(held) - len(accepted),
            "review_share": 1 - len(accepted) / len(held),
        }
    return Calibration(
        labels=attribute.label_names,
        mode=mode,
        below=below,
        sources=sources,
        review_below=review_below,
        review=review,
        risk_coverage=risk_coverage(decided[held], truth[held]),
        fitted_rows=len(fitting),
        held_out_rows=len(held),
    )
