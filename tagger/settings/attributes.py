"""Attributes, their labels and the prompts that stand for a label."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, ConfigDict, Field, field_validator, model_validator

from tagger.core.errors import ConfigError
from tagger.core.frozen import Frozen
from tagger.core.text import folded
from tagger.settings.paths import RelativePath, Text

DEFAULT_TEMPLATES = ("A photo of a {label}.",)
MINED: Literal["mined"] = "mined"  # negative labels from the vocabulary


class Section(Frozen):
    """A table of tagger.toml: values have the types that TOML gives them."""

    model_config = ConfigDict(strict=True)


Threshold = Annotated[float, Field(ge=0, le=1, strict=False)]
Coverage = Annotated[float, Field(gt=0, lt=1, strict=False)]


class Label(Section):
    """A label; `prompts` of its own stand for it instead of the attribute's templates, and its `review_below` instead of the
    attribute's.
    """

    name: Text
    prompts: tuple[Text, ...] = Field(default=(), strict=False)
    review_below: Threshold | None = None


def _label(value: Any) -> Any:  # whatever the TOML holds: pydantic judges it
    return Label(name=value) if isinstance(value, str) else value


class Attribute(Section):
    """One question about an image: which of `labels` is it?

    `truth_column` names the manifest column with the right answer, where a row has one. A row whose confidence is under
    `review_below` is tagged all the same and marked for review, with 1 every row is; not given, it is what the calibration
    chose, if it did, for all labels or for each. `prediction_sets` is the share of rows whose set of labels shall hold the right
    one; without it there are no sets. `unknown`: an image that is none of the labels gets none and goes to review;
    `negative_labels` are things that are none of them, or MINED. `calibration` is a file that `tagger calibrate`
    wrote, `head` one of `tagger train head`, which decides in the place of the prompts alone; both are relative to the file that
    names them.
    """

    name: Annotated[str, Field(pattern=r"^[A-Za-z][A-Za-z0-9_]*$")]
    labels: Annotated[tuple[Annotated[Label, BeforeValidator(_label)], ...], Field(strict=False)]
    templates: tuple[Text, ...] = Field(default=DEFAULT_TEMPLATES, strict=False, min_length=1)
    truth_column: Text | None = None
    review_below: Threshold | None = None
    prediction_sets: Coverage | None = None
    unknown: bool = False
    negative_labels: Annotated[tuple[Text, ...], Field(strict=False)] | Literal["mined"] = ()
    calibration: RelativePath | None = None
    head: RelativePath | None = None

    @field_validator("labels")
    @classmethod
    def _labels_differ(cls, labels: tuple[Label, ...]) -> tuple[Label, ...]:
        if len(labels) < 2:
            raise ValueError(f"expected at least 2 labels, found {len(labels)}; add labels to choose between")
        if repeated := duplicates(label.name for label in labels):
            raise ValueError(f"expected every label once, found {', '.join(repeated)} more than once; remove one")
        return labels

    @model_validator(mode="after")
    def _templates_have_a_place_for_the_label(self) -> Attribute:
        for template in self.templates:
            if "{label}" not in template:
                raise ValueError(f'template "{template}" has no {{label}}; write for example "{DEFAULT_TEMPLATES[0]}"')
        return self

    @model_validator(mode="after")
    def _negative_labels_are_none(self) -> Attribute:
        if self.negative_labels and not self.unknown:
            raise ValueError("negative_labels: expected unknown = true beside them, found none; add it, or leave them out")
        if both := {folded(name) for name in self.label_names} & {folded(name) for name in self.negative_labels}:
            raise ValueError(f"negative_labels: expected none of the labels, found {', '.join(sorted(both))}; remove one")
        return self

    @property
    def label_names(self) -> tuple[str, ...]:
        return tuple(label.name for label in self.labels)

    @property
    def thresholds(self) -> tuple[float, ...]:
        """Each label's `review_below`, its own or the attribute's; 0 without."""
        every = self.review_below or 0.0
        return tuple(every if label.review_below is None else label.review_below for label in self.labels)

    def uncalibrated(self) -> Attribute:
        """Return the attribute without a calibration and without what takes one."""
        return self.model_copy(update={"calibration": None, "prediction_sets": None, "unknown": False, "negative_labels": ()})

    def prompts(self, label: Label) -> tuple[str, ...]:
        # replace, not format: a label or a template may hold braces of its own.
        return label.prompts or tuple(template.replace("{label}", label.name) for template in self.templates)


def duplicates(names: Iterable[str]) -> list[str]:
    """Return the names that occur more than once, in order of first occurrence."""
    return [name for name, count in Counter(names).items() if count > 1]


def taxonomy_hash(attributes: Iterable[Attribute]) -> str:
    """Hash (SHA-256) all that turns an embedding into tags but calibration and head: attributes, labels, prompts, thresholds."""
    lines = []
    for attribute in attributes:
        left_out: dict[str, Any] = {"calibration": True, "head": True, "labels": {"__all__": {"review_below"}}}
        if attribute.prediction_sets is None:
            left_out["prediction_sets"] = True
        if not attribute.unknown:
            left_out |= {"unknown": True, "negative_labels": True}
        lines.append(attribute.model_dump_json(exclude=left_out))
        if any(label.review_below is not None for label in attribute.labels):
            lines.append(str(attribute.thresholds))
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()


def prompts_hash(attribute: Attribute) -> str:
    """Hash (SHA-256) the attribute's labels and the prompts that stand for them."""
    text = json.dumps([(label.name, attribute.prompts(label)) for label in attribute.labels])
    return hashlib.sha256(text.encode()).hexdigest()


def order_of(attribute: Attribute, trained: Sequence[str], where: str) -> list[int]:
    """Return each label's place among those that a model was trained on; ConfigError where they differ."""
    if set(trained) != set(attribute.label_names):
        raise ConfigError(
            f'model {where}: expected the labels of attribute "{attribute.name}", {", ".join(attribute.label_names)}, found '
            f"one trained on {', '.join(trained)}; train it with those, or correct the attribute's"
        )
    return [trained.index(name) for name in attribute.label_names]
