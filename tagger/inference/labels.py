"""A manifest and settings -> attributes with their labels, those found in the manifest where none are given."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Sequence
from typing import Any, NamedTuple
from unicodedata import normalize

from tagger.catalog.manifest import Manifest
from tagger.catalog.schemas import TRUTH_COLUMNS
from tagger.catalog.truth import can_be_truth, class_names, read_texts, require_text
from tagger.core.errors import ConfigError, ManifestError, UsageError
from tagger.core.text import folded, listed, quoted
from tagger.inference.artifacts import Artifacts
from tagger.settings.attributes import Attribute
from tagger.settings.load import parse_settings
from tagger.settings.schema import Settings

log = logging.getLogger(__name__)

MAX_FOUND_LABELS, MERGED_SHOWN = 100, 10
STUDY_LABELS = ("shirt", "dress", "shoes")


def choose_attributes(manifest: Manifest, settings: Settings, artifacts: Artifacts) -> tuple[Attribute, ...]:
    """Return the attributes of the settings, or one made of the labels that were given, or of what the manifest holds."""
    attributes, labels = settings.attributes, settings.labels
    if len(attributes) > 1 and labels is not None:
        names = ", ".join(attribute.name for attribute in attributes)
        raise UsageError(f"--labels: expected one attribute to give labels to, found {names}; change them in tagger.toml")
    if attributes and labels is None:
        return attributes
    if attributes:
        values: dict[str, Any] = {**attributes[0].model_dump(exclude={"labels"})}
    else:
        truth = next((column for column in TRUTH_COLUMNS if _holds_labels(manifest, column)), None)
        values = {"name": truth or TRUTH_COLUMNS[0], "truth_column": truth}
    if labels is None:
        if artifacts.model is not None:
            found = _Found(artifacts.model.labels, f"those of {settings.model.name}")
        else:
            found = _find_labels(manifest, values["truth_column"])
        labels, shown = found.labels, ", ".join(map(quoted, found.labels))
        log.info("labels: %s (%s); `tagger init` writes a settings file to choose them", shown, found.reason)
        if found.merged:
            more = f" and {len(found.merged) - MERGED_SHOWN} more labels" if len(found.merged) > MERGED_SHOWN else ""
            merged = "; ".join(found.merged[:MERGED_SHOWN])
            log.info("labels: values that match but for case or space are one label: %s%s", merged, more)
    return parse_settings({"attribute": [{**values, "labels": list(labels)}]}, where="labels").attributes


def check_truth_columns(manifest: Manifest, attributes: Sequence[Attribute]) -> None:
    """Require truth columns that exist and can be compared with labels; ConfigError, ManifestError for bytes that are no text."""
    for attribute in attributes:
        truth = attribute.truth_column
        if truth is None:
            continue
        if truth not in manifest.schema.names:
            raise ConfigError(
                f'attribute "{attribute.name}": truth_column: expected a column of {manifest.name}, found no {truth} among '
                f"{', '.join(manifest.schema.names)}; correct it or leave it out"
            )
        if not can_be_truth(manifest.schema, truth):
            kind = manifest.schema.field(truth).type
            raise ConfigError(
                f'attribute "{attribute.name}": truth_column {truth}: expected strings to compare with the labels, found '
                f"{kind}; store the labels' names as strings (the names of a Hugging Face ClassLabel are read, too), or leave "
                "truth_column out"
            )
        require_text(manifest, truth)


def _holds_labels(manifest: Manifest, column: str) -> bool:
    """Tell whether the manifest has such a truth column."""
    if column not in manifest.schema.names or not can_be_truth(manifest.schema, column):
        return False
    try:
        require_text(manifest, column)
    except ManifestError as error:
        log.warning("%s; no labels are taken from it", error)
        return False
    return True


class _Found(NamedTuple):
    """Labels, a word on where they are from, and which of them stand for several values."""

    labels: tuple[str, ...]
    reason: str
    merged: tuple[str, ...] = ()


def _find_labels(manifest: Manifest, truth: str | None) -> _Found:
    """Return the values of the truth column, sorted, or its classes, in their order."""
    if truth is None:
        return _Found(STUDY_LABELS, f"the default: the manifest has no text column {' or '.join(TRUTH_COLUMNS)}")
    names = class_names(manifest.schema, truth)
    if names is not None and 2 <= len(names) <= MAX_FOUND_LABELS:
        return _Found(names, f"the classes of column {truth}")
    found: dict[str, Counter[str]] = {}  # of values that are the same once they are folded, in the manifest's order
    for texts in read_texts(manifest, truth):
        for item in texts.drop_null().value_counts().to_pylist():
            if shared := folded(item["values"]):  # else there is nothing to be seen
                found.setdefault(shared, Counter())[item["values"]] += item["counts"]
            if len(found) > MAX_FOUND_LABELS:
                return _Found(STUDY_LABELS, f"the default: column {truth} has more than {MAX_FOUND_LABELS} different values")
    if len(found) < 2:
        return _Found(STUDY_LABELS, f"the default: column {truth} has fewer than two different values")
    labels = {_spelling(values): values for values in found.values()}
    merged = [f"{quoted(label)} of {listed(values)}" for label, values in labels.items() if set(values) != {label}]
    return _Found(tuple(sorted(labels)), f"the values of column {truth}", tuple(merged))


def _spelling(values: Counter[str]) -> str:
    """Return the commonest of these spellings, the first of several, without the space around it."""
    tidy = Counter[str]()
    for value, rows in values.items():
        tidy[normalize("NFC", " ".join(value.split()))] += rows
    return tidy.most_common(1)[0][0]
