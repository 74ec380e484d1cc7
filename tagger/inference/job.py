"""What a run is going to do: manifest, attributes, places, all checked before any model is loaded."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

from tagger.catalog.manifest import Manifest, open_manifest
from tagger.catalog.object_storage import Workspace
from tagger.catalog.sandbox import read_elsewhere
from tagger.catalog.schemas import TRUTH_COLUMNS, is_text, tag_fields
from tagger.core.errors import ConfigError, ManifestError, UsageError
from tagger.core.types import ImagePolicy
from tagger.core.urls import is_object_url
from tagger.encoders.resnet18_checkpoint import is_trained, read_trained
from tagger.inference.artifacts import check_checkpoints, read_calibrations, with_review
from tagger.settings.attributes import Attribute
from tagger.settings.load import parse_settings
from tagger.settings.schema import Settings
from tagger.tagging.calibration import Calibration

MAX_FOUND_LABELS = 100

log = logging.getLogger(__name__)


STUDY_LABELS = ("shirt", "dress", "shoes")


@dataclass(frozen=True, kw_only=True)
class Job:
    """What is to be tagged, and how: rows with the settings' attributes, images read by `policy`; calibrations by attribute."""

    manifest: Manifest
    settings: Settings
    policy: ImagePolicy
    calibrations: Mapping[str, Calibration]

    @property
    def attributes(self) -> tuple[Attribute, ...]:
        return self.settings.attributes


def check_job(name: str, settings: Settings, space: Workspace, labels: Sequence[str] | None) -> Job:
    """Open the manifest, its objects copied to `space`, and check settings and files of other commands against it.

    Raises ManifestError, ConfigError, UsageError, ModelError.
    """
    files = space.fetch(name) if is_object_url(name) else None
    read_elsewhere(space.folder if files else name)
    manifest = open_manifest(name, settings.manifest.image_column, settings.manifest.id_column, files)
    attributes = choose_attributes(manifest, settings, labels)
    check_columns(manifest, attributes)
    check_checkpoints(settings, attributes)
    calibrations = read_calibrations(settings, attributes)
    attributes = tuple(with_review(attribute, calibrations.get(attribute.name)) for attribute in attributes)
    settings = settings.model_copy(update={"attributes": attributes})
    return Job(manifest=manifest, settings=settings, policy=policy_of(manifest, settings), calibrations=calibrations)


def policy_of(manifest: Manifest, settings: Settings) -> ImagePolicy:
    images = settings.images
    roots = [Path(settings.manifest.image_root or manifest.folder)]
    if not roots[0].is_dir():
        raise ConfigError(
            f"image root {roots[0]}: expected a folder of this machine, found none; correct --image-root or [manifest] image_root"
        )
    if settings.manifest.image_root is None and is_object_url(manifest.name):
        roots = []  # not the folder of its copies
        if is_text(manifest.schema.field(manifest.image_column).type) and not (images.allow_buckets or images.allow_hosts):
            raise ConfigError(
                f"{manifest.name}: expected an image root for the paths in {manifest.image_column}, found none; name a folder of "
                "this machine with --image-root, or list [images] allow_buckets or allow_hosts if they are URLs"
            )
    for other in images.allow_roots:
        if not Path(other).is_dir():
            raise ConfigError(f"images.allow_roots: expected folders, found none at {other}; correct it")
    policy = ImagePolicy(roots=tuple(folder.resolve() for folder in (*roots, *map(Path, images.allow_roots))))
    return replace(
        policy,
        formats=(*policy.formats, *images.allow_formats),
        timeout=images.timeout,
        hosts=images.allow_hosts,
        buckets=images.allow_buckets,
        private_networks=images.allow_private_networks,
    )


def choose_attributes(manifest: Manifest, settings: Settings, labels: Sequence[str] | None) -> tuple[Attribute, ...]:
    """The attributes to tag: those of the settings, or one made of `labels`, or of what the manifest holds."""
    attributes = settings.attributes
    if len(attributes) > 1 and labels is not None:
        names = ", ".join(attribute.name for attribute in attributes)
        raise UsageError(f"--labels: expected one attribute to give labels to, found {names}; change them in tagger.toml")
    if attributes and labels is None:
        return attributes
    truth = next((column for column in TRUTH_COLUMNS if _is_text_column(manifest, column)), None)
    if attributes:
        values: dict[str, Any] = {**attributes[0].model_dump(exclude={"labels"})}
    else:
        values = {"name": truth or TRUTH_COLUMNS[0], "truth_column": truth}
    if labels is None:
        if is_trained(settings.model.name):
            labels, reason = read_trained(settings.model.name).labels, f"those of {settings.model.name}"
        else:
            labels, reason = _found_labels(manifest, truth)
        log.info("labels: %s (%s); `tagger init` writes a settings file to choose them", ", ".join(labels), reason)
    return parse_settings({"attribute": [{**values, "labels": list(labels)}]}, where="labels").attributes


def _found_labels(manifest: Manifest, truth: str | None) -> tuple[tuple[str, ...], str]:
    """The values of the truth column, sorted, and a word on where they are from."""
    if truth is None:
        return STUDY_LABELS, f"the default: the manifest has no column {' or '.join(TRUTH_COLUMNS)}"
    found: set[str] = set()
    for part in manifest.column(truth):
        found.update(value for value in part.unique().to_pylist() if value)
        if len(found) > MAX_FOUND_LABELS:
            return STUDY_LABELS, f"the default: column {truth} has more than {MAX_FOUND_LABELS} different values"
    if len(found) < 2:
        return STUDY_LABELS, f"the default: column {truth} has fewer than two different values"
    return tuple(sorted(found)), f"the values of column {truth}"


def _is_text_column(manifest: Manifest, column: str) -> bool:
    return column in manifest.schema.names and is_text(manifest.schema.field(column).type)


def check_columns(manifest: Manifest, attributes: Sequence[Attribute]) -> None:
    """Truth columns exist and can be compared with labels; tag columns do not exist yet."""
    names = manifest.schema.names
    for attribute in attributes:
        truth = attribute.truth_column
        if truth is None:
            continue
        if truth not in names:
            raise ConfigError(
                f'attribute "{attribute.name}": truth_column: expected a column of {manifest.name}, found no {truth} among '
                f"{', '.join(names)}; correct it or leave it out"
            )
        if not _is_text_column(manifest, truth):
            kind = manifest.schema.field(truth).type
            raise ConfigError(
                f'attribute "{attribute.name}": truth_column {truth}: expected strings to compare with the labels, found '
                f"{kind}; store the labels' names, or leave it out"
            )
    added = [field.name for field in tag_fields([attribute.name for attribute in attributes])]
    if clash := [column for column in added if column in names]:
        raise ManifestError(
            f"{manifest.name}: expected no columns named like the tags, found {', '.join(clash)}; rename them in the "
            "manifest, or rename the attribute in tagger.toml"
        )


class Labelled(NamedTuple):
    """A manifest, the attribute that its truth column answers, and how its images may be read."""

    manifest: Manifest
    attribute: Attribute
    policy: ImagePolicy


def open_labelled(
    name: str, settings: Settings, space: Workspace, labels: Sequence[str] | None, attribute: str | None
) -> Labelled:
    """Open a manifest, its objects copied to `space`. ManifestError, ConfigError, UsageError.

    labels: of the one attribute, instead of the settings'. attribute: which one of the settings', where there are several.
    """
    files = space.fetch(name) if is_object_url(name) else None
    read_elsewhere(space.folder if files else name)
    opened = open_manifest(name, settings.manifest.image_column, settings.manifest.id_column, files)
    attributes = choose_attributes(opened, settings, labels)
    check_columns(opened, attributes)
    return Labelled(opened, _choose(attributes, attribute, name), policy_of(opened, settings))


def _choose(attributes: Sequence[Attribute], name: str | None, manifest: str) -> Attribute:
    names = [attribute.name for attribute in attributes]
    if name is None and len(names) > 1:
        raise UsageError(f"--attribute: expected one of {', '.join(names)}, found none; name the one to learn")
    if name is not None and name not in names:
        raise UsageError(f"--attribute {name}: expected one of {', '.join(names)}; correct it")
    chosen = attributes[names.index(name) if name else 0]
    if chosen.truth_column is None:
        raise ConfigError(
            f'attribute "{chosen.name}": expected a truth_column, whose values are learned, found none; name the column of '
            f"{manifest} that has the right answers"
        )
    return chosen
