"""What the settings' checkpoints and calibrations say of themselves, checked before any model is loaded."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from tagger.core.errors import ConfigError
from tagger.encoders.resnet18_checkpoint import is_trained, read_trained
from tagger.settings.attributes import Attribute, order_of
from tagger.settings.schema import FallbackSettings, Settings
from tagger.tagging.calibration import Calibration, read_calibration


def check_checkpoints(settings: Settings, attributes: Sequence[Attribute]) -> None:
    """ModelError for a file that is no checkpoint of `tagger train`, ConfigError for one of other labels."""
    name = settings.model.name
    if is_trained(name):
        trained = read_trained(name)
        if len(attributes) != 1:
            raise ConfigError(
                f"model {name}: expected one attribute, {trained.attribute}, found {', '.join(a.name for a in attributes)}; a "
                "ResNet18 knows the labels it was trained on: use it as [fallback] beside CLIP, or leave one attribute"
            )
        order_of(attributes[0], trained.labels, name)
        if settings.fallback is not None:
            raise ConfigError(
                f"model {name}: expected a CLIP beside [fallback], found a checkpoint of `tagger train`; leave one out"
            )
    if settings.fallback is not None:
        index = fallback_attribute(settings.fallback, attributes)
        order_of(attributes[index], read_trained(settings.fallback.checkpoint).labels, settings.fallback.checkpoint)


def fallback_attribute(fallback: FallbackSettings, attributes: Sequence[Attribute]) -> int:
    """The number of the attribute that the checkpoint was trained for. ConfigError, ModelError."""
    names = [attribute.name for attribute in attributes]
    if len(names) == 1:
        return 0
    trained = read_trained(fallback.checkpoint)
    if trained.attribute not in names:
        raise ConfigError(
            f"fallback {fallback.checkpoint}: expected a checkpoint for one of the attributes {', '.join(names)}, found one for "
            f"{trained.attribute}; rename the attribute, or train another"
        )
    if fallback.on_model_error:
        raise ConfigError(
            f"fallback.on_model_error: expected one attribute, which the checkpoint can decide alone, found {', '.join(names)}; "
            "leave it out, or tag the others in a run of their own"
        )
    return names.index(trained.attribute)


def read_calibrations(settings: Settings, attributes: Sequence[Attribute]) -> dict[str, Calibration]:
    """By attribute, of those that name one. ConfigError for one of other labels, or of another fallback."""
    found = {}
    for attribute in attributes:
        if attribute.calibration is None:
            continue
        calibration = read_calibration(Path(attribute.calibration), attribute.name, attribute.label_names)
        wanted = how_decided(settings, attributes, attribute)
        if (calibration.mode, calibration.below) != wanted:
            raise ConfigError(
                f'attribute "{attribute.name}": calibration {attribute.calibration}: expected one made with fallback '
                f"{describe(*wanted)}, found one made with fallback {describe(calibration.mode, calibration.below)}; run `tagger "
                "calibrate` again"
            )
        found[attribute.name] = calibration
    return found


def how_decided(settings: Settings, attributes: Sequence[Attribute], attribute: Attribute) -> tuple[str, float | None]:
    """An attribute's fallback: its mode, "none" without, and the confidence below which it is asked."""
    fallback = settings.fallback
    if fallback is None or attributes[fallback_attribute(fallback, attributes)].name != attribute.name:
        return "none", None
    return fallback.mode, fallback.below if fallback.mode == "low-confidence" else None


def describe(mode: str, below: float | None) -> str:
    return mode if below is None else f"{mode} below {below:g}"


def with_review(attribute: Attribute, calibration: Calibration | None) -> Attribute:
    """The attribute with the calibration's `review_below`, unless it has its own."""
    if calibration is None or attribute.review_below is not None:
        return attribute
    return attribute.model_copy(update={"review_below": calibration.review_below})
