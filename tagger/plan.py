"""What a run is going to do: manifest, attributes, places, all checked before any model is loaded."""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from tagger.catalog.check import check
from tagger.catalog.manifest import Manifest, open_manifest
from tagger.catalog.schemas import TRUTH_COLUMNS, is_text, tag_fields
from tagger.config import Settings, find_settings_file, parse_settings, read_settings
from tagger.errors import ConfigError, ManifestError, UsageError
from tagger.tagging.taxonomy import Attribute
from tagger.types import ImagePolicy

log = logging.getLogger(__name__)

MAX_FOUND_LABELS = 100
STUDY_LABELS = ("shirt", "dress", "shoes")


@dataclass(frozen=True, kw_only=True)
class Plan:
    """`rows` of the manifest are tagged with the settings' attributes, their images read by `policy`; results go to `output`."""

    manifest: Manifest
    settings: Settings
    policy: ImagePolicy
    output: Path
    rows: int

    @property
    def attributes(self) -> tuple[Attribute, ...]:
        return self.settings.attributes

    @property
    def run_folder(self) -> Path:
        return self.output.parent / f"{self.output.stem}.run"


def make_plan(
    name: str,
    settings: Settings,
    *,
    labels: Sequence[str] | None,
    output: str | Path | None,
    limit: int | None,
    overwrite: bool,
    in_place: bool,
) -> Plan:
    """Open the manifest and check everything against it. Raises ManifestError, ConfigError, UsageError."""
    check(name)
    manifest = open_manifest(name, settings.manifest.image_column, settings.manifest.id_column)
    attributes = _attributes(manifest, settings, labels)
    _check_columns(manifest, attributes)
    return Plan(
        manifest=manifest,
        settings=settings.model_copy(update={"attributes": attributes}),
        policy=_policy(manifest, settings),
        output=_output(name, manifest, output, limit, overwrite, in_place),
        rows=manifest.rows if limit is None else min(limit, manifest.rows),
    )


def gather_settings(
    manifest: str,
    config: str | Path | Mapping[str, Any] | None,
    model: str | Path | None,
    revision: str | None,
    image_column: str | None,
    image_root: str | Path | None,
) -> Settings:
    """The settings file, or the mapping, with the options on top."""
    if isinstance(config, Mapping):
        settings = parse_settings(config, where="config")
    else:
        path = Path(manifest)
        file = Path(config) if config is not None else find_settings_file(path if path.is_dir() else path.parent)
        settings = read_settings(file) if file else Settings()
        if file:
            log.info("settings: %s", file)
    if model is not None:  # another model: the file's revision is not its revision
        settings = _replace(settings, "model", name=str(model), revision=revision)
    elif revision is not None:
        settings = _replace(settings, "model", revision=revision)
    if image_column is not None:
        settings = _replace(settings, "manifest", image_column=image_column)
    if image_root is not None:
        settings = _replace(settings, "manifest", image_root=str(image_root))
    return settings


def _policy(manifest: Manifest, settings: Settings) -> ImagePolicy:
    images = settings.images
    root = Path(settings.manifest.image_root or manifest.folder)
    if not root.is_dir():
        raise ConfigError(f"image root {root}: expected a folder, found none; correct --image-root or [manifest] image_root")
    for other in images.allow_roots:
        if not Path(other).is_dir():
            raise ConfigError(f"images.allow_roots: expected folders, found none at {other}; correct it")
    policy = ImagePolicy(roots=tuple(Path(folder).resolve() for folder in (root, *images.allow_roots)))
    return replace(
        policy,
        formats=(*policy.formats, *(name.upper() for name in images.allow_formats)),
        timeout=images.timeout,
        hosts=images.allow_hosts,
        buckets=images.allow_buckets,
        private_networks=images.allow_private_networks,
    )


def _replace(settings: Settings, table: str, **values: Any) -> Settings:
    return settings.model_copy(update={table: getattr(settings, table).model_copy(update=values)})


def _attributes(manifest: Manifest, settings: Settings, labels: Sequence[str] | None) -> tuple[Attribute, ...]:
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


def _check_columns(manifest: Manifest, attributes: Sequence[Attribute]) -> None:
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


def _output(name: str, manifest: Manifest, output: str | Path | None, limit: int | None, overwrite: bool, in_place: bool) -> Path:
    """Where the results go; UsageError where they must not."""
    path = Path(name)
    absolute = os.path.abspath(path)  # noqa: PTH100  # "." has no name, and resolve() would follow a link
    inputs = {file.resolve() for file in manifest.files}
    if in_place:
        if output is not None:
            raise UsageError("--in-place and --output: expected one of them, found both; leave one out")
        if limit is not None:
            raise UsageError("--in-place and --limit: a part of the manifest would replace the whole; leave one out")
        if not path.is_file():
            raise UsageError(f"--in-place: expected a manifest of one file, found {name}; use --output")
        return path.resolve()
    if output is None:
        if not path.exists():
            raise UsageError(f"--output: expected where to write the results of {name}, found nothing; name a file")
        whole = Path(absolute)
        output = whole.with_name(f"{whole.stem if path.is_file() else whole.name}.tagged.parquet")
    target = Path(output).absolute()
    if target.resolve() in inputs:
        raise UsageError(f"{output}: expected results beside the manifest, found the manifest itself; use --in-place")
    as_next_input = target.resolve().parent == path.resolve() if path.is_dir() else target.match(absolute)
    if as_next_input and not path.is_file():
        raise UsageError(f"{output}: lies in the manifest {name} and would be read as input next time; choose another folder")
    if target.is_dir() or not target.parent.is_dir():
        found = "a folder" if target.is_dir() else f"no folder {target.parent}"
        raise UsageError(f"{output}: expected a file in an existing folder, found {found}; correct --output")
    if target.exists() and not overwrite:
        raise UsageError(f"{output}: expected no file, found results; use --overwrite to replace them")
    return target
