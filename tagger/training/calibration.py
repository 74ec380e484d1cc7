"""Labelled rows' probabilities -> a calibration: fitted on one half of the rows, judged on the other."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from tagger.core.errors import ManifestError
from tagger.evaluation.confidence import confidence_metrics, risk_coverage, threshold_for
from tagger.inference.artifacts import Mode
from tagger.inference.hybrid import HYBRID, Hybrid, hybrid_weights
from tagger.inference.predictor import Predictor, Probabilities
from tagger.settings.attributes import Attribute, prompts_hash
from tagger.tagging.calibration import Calibration, Source
from tagger.tagging.decisions import log_probabilities, more_confident
from tagger.training.split import split
from tagger.training.temperature import fit_temperature, softmax

log = logging.getLogger(__name__)

HELD_OUT = 0.5  # share of each label's rows


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
    attribute: Attribute,
    rule: Rule,
    first: Probabilities,
    second: Probabilities | None,
) -> dict[str, Uncalibrated]:
    """Return every source that may decide about an attribute: first the one that decides alone, or is asked first.

    first, second: float32 (N, K), the probabilities of the predictor and, where the rule has a fallback, of the hybrid's second.
    """
    encoder = predictor.encoder
    prompts = prompts_hash(attribute) if encoder.reads_prompts else ""
    alone = {encoder.source: Uncalibrated(log_probabilities(first), 1.0, encoder.weights, prompts)}
    if hybrid is None or second is None:
        return alone
    own = hybrid.second.encoder
    fallback = {own.source: Uncalibrated(log_probabilities(second), hybrid.second.temperatures[0], own.weights, "")}
    if rule.mode == "low-confidence":
        return {**alone, **fallback}
    mean, _ = hybrid.join(first, second, np.ones(len(first), np.bool_))
    weights = hybrid_weights(encoder.weights, own.weights)
    return {HYBRID: Uncalibrated(log_probabilities(mean), 1.0, weights, prompts), **fallback}


def fit_calibration(
    manifest: str,
    attribute: Attribute,
    sources: Mapping[str, Uncalibrated],
    truth: NDArray[np.int64],
    rule: Rule,
    target_precision: float | None,
    seed: int,
) -> Calibration:
    """Fit each source's temperature and, for a target, `review_below` on one half of the rows, and judge them on the other.

    truth: int64 (N,), indices of the attribute's labels. Raises ManifestError where no label has two rows.
    """
    fitting, held_out = split(truth, HELD_OUT, seed)
    if not len(fitting) or not len(held_out):
        raise ManifestError(
            f'{manifest}: expected labelled, readable rows for attribute "{attribute.name}", at least two of a label, found '
            f"{len(truth)}; label more"
        )
    fitted = {name: _fit_source(source, truth, fitting, held_out) for name, source in sources.items()}
    decided = _decide([probabilities for _, probabilities in fitted.values()], rule)
    review_below, review = None, dict[str, Any]()
    if target_precision is not None:
        review_below = _choose_threshold(decided[fitting], truth[fitting], target_precision, manifest, attribute)
        review = _judge_review(decided[held_out], truth[held_out], review_below, target_precision)
    return Calibration(
        labels=attribute.label_names,
        mode=rule.mode,
        below=rule.below,
        sources={name: source for name, (source, _) in fitted.items()},
        review_below=review_below,
        review=review,
        risk_coverage=risk_coverage(decided[held_out], truth[held_out]),
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


def _choose_threshold(
    decided: Probabilities, truth: NDArray[np.int64], target_precision: float, manifest: str, attribute: Attribute
) -> float:
    """Return the confidence from which on the target is reached; 1 and a warning where none is."""
    found = threshold_for(decided, truth, target_precision)
    if found is not None:
        return found
    log.warning(
        '%s: attribute "%s": no confidence reaches a precision of %g; every row goes to review',
        manifest,
        attribute.name,
        target_precision,
    )
    return 1.0


def _judge_review(
    decided: Probabilities, truth: NDArray[np.int64], review_below: float, target_precision: float
) -> dict[str, Any]:
    """Return what the threshold does to rows that it was not chosen on."""
    accepted = decided.max(1) >= review_below
    count = int(accepted.sum())
    return {
        "wished_precision": target_precision,
        "precision": float((decided[accepted].argmax(1) == truth[accepted]).mean()) if count else None,
        "review_rows": len(truth) - count,
        "review_share": 1 - count / len(truth),
    }
