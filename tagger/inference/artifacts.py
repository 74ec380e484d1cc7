"""What the settings' checkpoints and calibrations say of themselves: read once, and checked before any model is loaded."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

from tagger.core.errors import ConfigError
from tagger.encoders.resnet18_checkpoint import ResNet18Description, read_description
from tagger.settings.attributes import Attribute, order_of, prompts_hash
from tagger.settings.schema import FallbackSettings, Settings
from tagger.tagging.calibration import Calibration, read_calibration
from tagger.tagging.head_file import HeadFile, read_head

Mode = Literal["none", "low-confidence", "ensemble"]  # of a fallback


@dataclass(frozen=True, kw_only=True)
class Artifacts:
    """The descriptions of the model, if it is a ResNet18, and of the fallback; which attribute the fallback decides, from 0.

    heads: of the attributes that name one.
    """

    model: ResNet18Description | None = None
    fallback: ResNet18Description | None = None
    fallback_index: int | None = None
    heads: Mapping[str, HeadFile] = field(default_factory=dict)


def read_artifacts(settings: Settings) -> Artifacts:
    """Read what the checkpoints of `tagger train` say of themselves; ModelError for a file that is none."""
    model, fallback = settings.model, settings.fallback
    return Artifacts(
        model=read_description(model.name) if model.is_resnet18 else None,
        fallback=read_description(fallback.checkpoint) if fallback else None,
    )


def check_artifacts(artifacts: Artifacts, settings: Settings, attributes: Sequence[Attribute]) -> Artifacts:
    """Return them with heads and the fallback's attribute. ConfigError for files of other labels or attributes; ModelError."""
    artifacts = replace(artifacts, heads=_read_heads(artifacts, settings, attributes))
    name = settings.model.name
    if artifacts.model is not None:
        if len(attributes) != 1:
            raise ConfigError(
                f"model {name}: expected one attribute, {artifacts.model.attribute}, found "
                f"{', '.join(attribute.name for attribute in attributes)}; a ResNet18 knows the labels it was trained on: use it "
                "as [fallback] beside CLIP, or leave one attribute"
            )
        order_of(attributes[0], artifacts.model.labels, name)
        if settings.fallback is not None:
            raise ConfigError(
                f"model {name}: expected a CLIP beside [fallback], found a checkpoint of `tagger train`; leave one out"
            )
    if settings.fallback is None or artifacts.fallback is None:
        return artifacts
    index = _fallback_index(settings.fallback, artifacts.fallback, attributes)
    order_of(attributes[index], artifacts.fallback.labels, settings.fallback.checkpoint)
    _require_no_head_in_ensemble(settings.fallback, attributes[index])
    return replace(artifacts, fallback_index=index)


def _read_heads(artifacts: Artifacts, settings: Settings, attributes: Sequence[Attribute]) -> dict[str, HeadFile]:
    """Read the heads of the attributes that name one; ConfigError for one of other labels, prompts or attribute; ModelError."""
    found = {}
    for attribute in attributes:
        if attribute.head is None:
            continue
        if artifacts.model is not None:
            raise ConfigError(
                f'attribute "{attribute.name}": head {attribute.head}: expected a CLIP, whose embeddings it was fitted on, found '
                f"model {settings.model.name}; leave one of them out"
            )
        found[attribute.name] = head = read_head(attribute.head)
        head.check(attribute.name, attribute.label_names, prompts_hash(attribute))
    return found


def _require_no_head_in_ensemble(fallback: FallbackSettings, attribute: Attribute) -> None:
    if fallback.mode == "ensemble" and attribute.head is not None:
        raise ConfigError(
            f'attribute "{attribute.name}": head {attribute.head}: expected none beside [fallback] mode ensemble, whose weight '
            'was chosen for the prompts alone, found one; leave it out, or use mode = "low-confidence"'
        )


def _fallback_index(settings: FallbackSettings, fallback: ResNet18Description, attributes: Sequence[Attribute]) -> int:
    names = [attribute.name for attribute in attributes]
    if len(names) == 1:
        return 0
    if fallback.attribute not in names:
        raise ConfigError(
            f"fallback {settings.checkpoint}: expected a checkpoint for one of the attributes {', '.join(names)}, found one for "
            f"{fallback.attribute}; rename the attribute, or train another"
        )
    if settings.on_model_error:
        raise ConfigError(
            f"fallback.on_model_error: expected one attribute, which the checkpoint can decide alone, found {', '.join(names)}; "
            "leave it out, or tag the others in a run of their own"
        )
    return names.index(fallback.attribute)


def read_calibrations(settings: Settings, attributes: Sequence[Attribute], artifacts: Artifacts) -> dict[str, Calibration]:
    """Read the calibrations of the attributes that name one.

    ConfigError for one of other labels, of another fallback, or without the prediction sets that the attribute asks for.
    """
    found = {}
    for index, attribute in enumerate(attributes):
        if attribute.calibration is None:
            _require_sets(attribute, None)
            continue
        calibration = read_calibration(Path(attribute.calibration), attribute.name, attribute.label_names)
        wanted = fallback_rule(settings, artifacts, index)
        if (calibration.mode, calibration.below) != wanted:
            raise ConfigError(
                f'attribute "{attribute.name}": calibration {attribute.calibration}: expected one made with fallback '
                f"{_shown(*wanted)}, found one made with fallback {_shown(calibration.mode, calibration.below)}; run `tagger "
                "calibrate` again"
            )
        _require_sets(attribute, calibration)
        found[attribute.name] = calibration
    return found


def _require_sets(attribute: Attribute, calibration: Calibration | None) -> None:
    wanted = attribute.prediction_sets
    sets = None if calibration is None else calibration.prediction_sets
    if wanted is None or (sets is not None and sets.coverage == wanted):
        return
    where = f'attribute "{attribute.name}": prediction_sets = {wanted:g}'
    if calibration is None:
        raise ConfigError(
            f"{where}: expected a calibration, found none; run `tagger calibrate` with this setting, and name the file that it "
            'writes: calibration = "calibration.json"'
        )
    other = "none" if sets is None else f"those of {sets.coverage:g}"
    raise ConfigError(
        f"{where}: expected its sets in calibration {attribute.calibration}, found {other}; run `tagger calibrate` again, with "
        "this setting"
    )


def set_threshold_of(attribute: Attribute, calibration: Calibration | None, fallback_alone: bool) -> float | None:
    """Return the probability from which on a label belongs to a prediction set, 0 where all do; None: there are no sets.

    fallback_alone: whether the fallback has taken CLIP's place.
    """
    if attribute.prediction_sets is None or calibration is None or calibration.prediction_sets is None:
        return None
    sets = calibration.prediction_sets
    return (sets.fallback_threshold if fallback_alone else sets.threshold) or 0.0


def fallback_rule(settings: Settings, artifacts: Artifacts, index: int) -> tuple[Mode, float | None]:
    """Return how attribute number `index` uses the fallback: its mode ("none" without) and the confidence below which it does."""
    fallback = settings.fallback
    if fallback is None or artifacts.fallback_index != index:
        return "none", None
    return fallback.mode, fallback.below if fallback.mode == "low-confidence" else None


def with_review(attribute: Attribute, calibration: Calibration | None) -> Attribute:
    """Return the attribute with the calibration's `review_below`, for all labels or for each, unless it has its own."""
    if calibration is None or attribute.review_below is not None:
        return attribute
    if not calibration.review_below_by_label:
        return attribute.model_copy(update={"review_below": calibration.review_below})
    labels = tuple(
        label if label.review_below is not None else label.model_copy(update={"review_below": chosen})
        for label, chosen in zip(attribute.labels, calibration.thresholds, strict=True)
    )
    return attribute.model_copy(update={"labels": labels})


def guarantees_of(attribute: Attribute, calibration: Calibration | None, fallback_alone: bool) -> dict[str, dict[str, Any]]:
    """Return what the calibration promises of an attribute, as RunSummary has it; empty where that is nothing.

    There is no precision where the attribute has thresholds of its own, or the fallback, which chose none, decides alone; no
    sets where too few rows chose them.
    """
    found: dict[str, dict[str, Any]] = {}
    if calibration is None:
        return found
    review, sets = calibration.review, calibration.prediction_sets
    if review is not None and calibration.thresholds == attribute.thresholds and not fallback_alone:
        per_label = bool(calibration.review_below_by_label)
        found["precision"] = {
            "target": review.target,
            "confidence": review.confidence,
            "per_label": per_label,
            "rows": review.rows,
        }
    if sets is not None and set_threshold_of(attribute, calibration, fallback_alone):
        found["sets"] = {"coverage": sets.coverage, "rows": sets.rows}
    return found


def _shown(mode: str, below: float | None) -> str:
    return mode if below is None else f"{mode} below {below:g}"
