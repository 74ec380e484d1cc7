"""A manifest whose rows are learned from or judged with: opened, and checked before any model is loaded."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from tagger.catalog.check import check
from tagger.catalog.manifest import Manifest, open_manifest
from tagger.catalog.storage import Workspace, is_remote
from tagger.config import Settings
from tagger.errors import ConfigError, UsageError
from tagger.plan import check_columns, choose_attributes, policy_of
from tagger.tagging.taxonomy import Attribute
from tagger.types import ImagePolicy


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
    files = space.fetch(name) if is_remote(name) else None
    check(str(space.folder) if files else name)
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
