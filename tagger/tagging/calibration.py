"""Temperatures that make confidences mean something, as `tagger calibrate` keeps them in a file (Guo et al. 2017)."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, ValidationError

from tagger.core.errors import ConfigError
from tagger.core.frozen import Frozen
from tagger.core.text import first_line


class Source(Frozen):
    """Hold a system's temperature, and the hashes of the weights and prompts that it was fitted for.

    before, after: metrics on held-out rows, without and with the temperature.
    """

    temperature: float = Field(gt=0)
    weights: str
    prompts: str
    before: dict[str, Any]
    after: dict[str, Any]


class Accepted(Frozen):
    """Hold what a threshold does to the held-out rows that chose it.

    accepted: rows that need no review, 0 where no threshold was found. precision: the share of them that is right.
    lower_bound: of Clopper and Pearson (1934) for it, as it was tested; None for thresholds that were tested apart. Both are None
    without a row.
    """

    accepted: int
    precision: float | None
    lower_bound: float | None


class Review(Accepted):
    """Hold the precision that is promised of rows that need no review, with which confidence, and how many rows chose by it.

    by_label: for each label what its threshold does; empty where one threshold serves them all.
    """

    target: float
    confidence: float
    rows: int
    by_label: dict[str, Accepted]


class PredictionSets(Frozen):
    """Hold the probability from which on a label belongs to an image's set, so that `coverage` of the sets hold the right one.

    threshold: of the probabilities that a run decides by; fallback_threshold: of the fallback's, where it decides alone. Either
    is None where so few rows cannot promise it, and every set has all labels; the latter also without a fallback. rows: those
    held out, which chose the thresholds. mean_size: labels of their sets.
    """

    coverage: float
    threshold: float | None
    fallback_threshold: float | None
    rows: int
    mean_size: float


class Classifier(Frozen):
    """Hold a linear classifier of labels and kinds of strangers: weight (K + M, D), bias (K + M,)."""

    weight: tuple[tuple[float, ...], ...]
    bias: tuple[float, ...]


class UnknownThreshold(Frozen):
    """Hold the score under which an image is none of the labels, and how it was chosen on labelled rows.

    method: "prompts", the score by labels and negative labels; "strangers", by `classifiers` fitted on rows that fit no label.
    known, strangers: such rows. auroc: of each method by which strangers could be told, on rows that did not fit it. recall: the
    share of the known that is kept; found: the share of the strangers that is not, None without any.
    """

    method: Literal["prompts", "strangers"]
    below: float
    negative_labels: tuple[str, ...] | Literal["mined"]
    classifiers: tuple[Classifier, ...]
    known: int
    strangers: int
    auroc: dict[str, float]
    recall: float
    found: float | None


class Calibration(Frozen):
    """Hold one attribute's calibration. mode, below: those of the fallback, "none" and None without one.

    review_below: the threshold of all labels; review_below_by_label: or one for each, a label without goes to review. Neither
    is there where no threshold keeps the promise, or none was asked for. review: how they were chosen. prediction_sets, unknown:
    None where the settings ask for none.
    """

    labels: tuple[str, ...]
    mode: Literal["none", "low-confidence", "ensemble"]
    below: float | None
    sources: dict[str, Source]
    review_below: float | None
    review_below_by_label: dict[str, float]
    review: Review | None
    prediction_sets: PredictionSets | None
    unknown: UnknownThreshold | None = None
    risk_coverage: list[dict[str, float]]
    fitted_rows: int
    held_out_rows: int

    @property
    def thresholds(self) -> tuple[float, ...]:
        """Each label's threshold, 1 for a label that goes to review; none where none was chosen."""
        if self.review_below is not None:
            return (self.review_below,) * len(self.labels)
        chosen = self.review_below_by_label
        return tuple(chosen.get(label, 1.0) for label in self.labels) if chosen else ()


class CalibrationFile(Frozen):
    """Hold what calibration.json does; `manifest` is the SHA-256 of the manifest whose labelled rows it was fitted on."""

    schema_version: Literal[3] = 3
    manifest: str
    seed: int
    attributes: dict[str, Calibration]


def read_calibration(path: Path, attribute: str, labels: tuple[str, ...]) -> Calibration:
    """Read an attribute's calibration from the file of `tagger calibrate`; ConfigError for none, or one of other labels."""
    where = f'attribute "{attribute}": calibration {path}'
    try:
        content = CalibrationFile.model_validate(json.loads(path.read_text(encoding="utf-8")))
    except OSError as error:
        raise ConfigError(f"{where}: expected a readable file, found: {error.strerror}; run `tagger calibrate`") from error
    except ValidationError as error:
        problem = error.errors()[0]
        named = ".".join(map(str, problem["loc"]))
        raise ConfigError(
            f"{where}: expected what `tagger calibrate` writes, found {named}: {problem['msg']}; run it again"
        ) from error
    except (ValueError, RecursionError) as error:
        raise ConfigError(f"{where}: expected JSON, found: {first_line(error)}; run `tagger calibrate` again") from error
    if attribute not in content.attributes:
        found = ", ".join(content.attributes)
        raise ConfigError(f"{where}: expected one of this attribute, found {found}; run `tagger calibrate` again")
    calibration = content.attributes[attribute]
    if calibration.labels != labels:
        raise ConfigError(
            f"{where}: expected one made for the labels {', '.join(labels)}, found one for {', '.join(calibration.labels)}; run "
            "`tagger calibrate` again"
        )
    return calibration


def temperature_of(calibration: Calibration | None, source: str, weights: str, prompts: str) -> float:
    """Return a system's temperature, 1 without a calibration; ConfigError for a calibration of other weights or prompts."""
    if calibration is None:
        return 1.0
    if (found := calibration.sources.get(source)) is None:
        raise ConfigError(
            f"calibration: expected a temperature for {source}, found those of {', '.join(calibration.sources)}; run `tagger "
            "calibrate` again"
        )
    for name, here, there in (("weights", weights, found.weights), ("prompts", prompts, found.prompts)):
        if here != there:
            raise ConfigError(
                f"calibration: expected one made for these {name} of {source}, found other {name}; run `tagger calibrate` again"
            )
    return found.temperature
