"""Labelled rows' probabilities -> a calibration: fitted on one half of the rows, thresholds chosen on the other."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from tagger.core.errors import ManifestError
from tagger.evaluation.confidence import confidence_metrics, risk_coverage
from tagger.evaluation.guarantee import Judged
from tagger.inference.artifacts import Mode
from tagger.inference.hybrid import HYBRID, Hybrid, hybrid_weights
from tagger.inference.predictor import Predictor, Probabilities
from tagger.settings.attributes import Attribute
from tagger.settings.options import Target
from tagger.tagging.calibration import Calibration, Source, UnknownThreshold
from tagger.tagging.decisions import log_probabilities, more_confident
from tagger.training.prediction_sets import choose_sets
from tagger.training.review import Thresholds, choose_thresholds
from tagger.training.split import halve
from tagger.training.temperature import fit_temperature, softmax


class Rule(NamedTuple):
    """Which of an attribute's sources decides: the fallback's mode, "none" without, and the confidence below which it does."""

    mode: Mode
    below: float | None


class Uncalibrated(NamedTuple):
    """A source's log-probabilities, float32 (N, K), the temperature that they were made with, its weights and prompts."""

    logits: NDArray[np.float32]
    temperature: float
    weights: str
    prompts: str


def sources_of(
    predictor: Predictor,
    hybrid: Hybrid | None,
    index: int,
    rule: Rule,
    first: Probabilities,
    second: Probabilities | None,
) -> dict[str, Uncalibrated]:
    """Return every source that may decide about attribute number `index`: first the one that decides alone, or is asked first.

    first, second: float32 (N, K), the probabilities of the predictor and, where the rule has a fallback, of the hybrid's second.
    """
    source, weights, prompts = predictor.identities[index]
    alone = {source: Uncalibrated(log_probabilities(first), 1.0, weights, prompts)}
    if hybrid is None or second is None:
        return alone
    own = hybrid.second.encoder
    fallback = {own.source: Uncalibrated(log_probabilities(second), hybrid.second.temperatures[0], own.weights, "")}
    if rule.mode == "low-confidence":
        return {**alone, **fallback}
    mean, _ = hybrid.join(first, second, np.ones(len(first), np.bool_))
    return {HYBRID: Uncalibrated(log_probabilities(mean), 1.0, hybrid_weights(weights, own.weights), prompts), **fallback}


def fit_calibration(
    manifest: str,
    attribute: Attribute,
    sources: Mapping[str, Uncalibrated],
    truth: NDArray[np.int64],
    rule: Rule,
    target: Target | None,
    seed: int,
    unknown: UnknownThreshold | None = None,
) -> Calibration:
    """Fit each source's temperature on one half of the rows, judge it on the other, and choose the thresholds there.

    Those of review where there is a target, and those of sets where the attribute has `prediction_sets`. What they promise
    takes rows whose confidences were fixed before, so those that fitted a temperature cannot give it. truth: int64 (N,),
    indices of the attribute's labels. unknown: what finds images that are none of them. Raises ManifestError for fewer than two
    rows.
    """
    where = f'{manifest}: attribute "{attribute.name}"'
    fitting, held_out = halve(len(truth), seed)
    if not len(fitting):
        raise ManifestError(f"{where}: expected at least two labelled, readable rows, found {len(truth)}; label more")
    fitted = {name: _fit_source(source, truth, fitting, held_out) for name, source in sources.items()}
    calibrated = [probabilities for _, probabilities in fitted.values()]
    decided = _decide(calibrated, rule)
    judged = Judged(decided.max(1), decided.argmax(1) == truth)
    names = attribute.label_names
    review = Thresholds() if target is None else choose_thresholds(decided, truth, (fitting, held_out), names, target, where)
    sets = None
    if attribute.prediction_sets is not None:
        by_fallback = calibrated[1][held_out] if len(calibrated) > 1 else None
        sets = choose_sets(decided[held_out], by_fallback, truth[held_out], attribute.prediction_sets, where)
    return Calibration(
        labels=names,
        mode=rule.mode,
        below=rule.below,
        sources={name: source for name, (source, _) in fitted.items()},
        **review._asdict(),
        prediction_sets=sets,
        unknown=unknown,
        risk_coverage=[asdict(point) for point in risk_coverage(judged.take(held_out))],
        fitted_rows=len(fitting),
        held_out_rows=len(held_out),
    )


def _fit_source(
    source: Uncalibrated, truth: NDArray[np.int64], fitting: NDArray[np.int64], held_out: NDArray[np.int64]
) -> tuple[Source, Probabilities]:
    """Return the source with its temperature, and its calibrated probabilities of all rows."""
    temperature = fit_temperature(source.logits[fitting], truth[fitting])
    before, after = softmax(source.logits), softmax(source.logits / temperature)
    fitted = Source(
        temperature=temperature * source.temperature,
        weights=source.weights,
        prompts=source.prompts,
        before=confidence_metrics(before[held_out], truth[held_out]),
        after=confidence_metrics(after[held_out], truth[held_out]),
    )
    return fitted, after


def _decide(calibrated: Sequence[Probabilities], rule: Rule) -> Probabilities:
    """Return the probabilities by which a run decides."""
    first = calibrated[0]
    if rule.mode != "low-confidence" or rule.below is None:
        return first
    by_second = (first.max(1) < rule.below) & more_confident(first, calibrated[1])
    return np.where(by_second[:, None], calibrated[1], first)
