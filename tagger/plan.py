"""What a run is going to do: manifest, attributes, places, all checked before any model is loaded."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from tagger.catalog.check import check
from tagger.catalog.earlier import open_earlier
from tagger.catalog.manifest import Manifest, open_manifest
from tagger.catalog.results import open_results
from tagger.catalog.schemas import TRUTH_COLUMNS, is_text, tag_fields
from tagger.catalog.storage import Workspace, is_remote, kind
from tagger.config import Settings, find_settings_file, parse_settings, read_settings
from tagger.encoders.pinned import commit_of
from tagger.encoders.trained import is_trained, read_trained
from tagger.errors import ConfigError, ManifestError, UsageError
from tagger.learned import check_checkpoints, read_calibrations, with_review
from tagger.outputs import choose_output, run_folder
from tagger.tagging.calibration import Calibration
from tagger.tagging.taxonomy import Attribute
from tagger.thresholds import gate_thresholds
from tagger.types import ImagePolicy

log = logging.getLogger(__name__)

MAX_FOUND_LABELS = 100
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


@dataclass(frozen=True, kw_only=True)
class Plan(Job):
    """A job of which the first `rows` are tagged; results go to `output`.

    url: the object that they are put at from there. earlier: the result whose error rows alone are tried again, with its tag
    columns. previous: the result of an earlier night, or its copy; previous_place: as a person names it. gates: threshold of
    each that is judged; max_errors in rows.
    """

    output: Path
    url: str | None
    rows: int
    earlier: Manifest | None
    previous: Path | None
    previous_place: Path | str | None
    gates: Mapping[str, float]

    @property
    def place(self) -> Path | str:
        """Where the results will be, as a person names it."""
        return self.url or self.output

    @property
    def run_folder(self) -> Path:
        return run_folder(self.output)


def make_plan(
    name: str,
    settings: Settings,
    space: Workspace,
    *,
    labels: Sequence[str] | None,
    output: str | Path | None,
    limit: int | None,
    overwrite: bool,
    in_place: bool,
    retry_errors: str | Path | None,
    previous: str | Path | None,
    max_errors: int | str | None,
) -> Plan:
    """Open the manifest, its objects copied to `space`, and check everything against it.

    Raises ManifestError, ConfigError, UsageError, StoppedError.
    """
    job = check_job(name, settings, space, labels)
    manifest = job.manifest
    rows = manifest.rows if limit is None else min(limit, manifest.rows)
    earlier = None
    if retry_errors is not None:
        if in_place or rows != manifest.rows:
            raise UsageError(f"--retry-errors: expected it without {'--in-place' if in_place else '--limit'}; leave one out")
        result = space.local(retry_errors)
        check(str(result))
        earlier = open_earlier(result, manifest)
    objects = [space.urls[file] for file in manifest.files if file in space.urls]
    target = choose_output(name, manifest, objects, output, limit, overwrite, in_place)
    place = target if previous is None else previous
    found = _open_previous(place, space, manifest, required=previous is not None)
    return Plan(
        **vars(job),
        output=target if isinstance(target, Path) else space.folder / "results.parquet",
        url=None if isinstance(target, Path) else target,
        rows=rows,
        earlier=earlier,
        previous=found,
        previous_place=place if found else None,
        gates=gate_thresholds(settings.gates, job.attributes, max_errors, rows),
    )


def check_job(name: str, settings: Settings, space: Workspace, labels: Sequence[str] | None) -> Job:
    """Open the manifest, its objects copied to `space`, and check settings and files of other commands against it.

    Raises ManifestError, ConfigError, UsageError, ModelError.
    """
    files = space.fetch(name) if is_remote(name) else None
    check(str(space.folder) if files else name)
    manifest = open_manifest(name, settings.manifest.image_column, settings.manifest.id_column, files)
    attributes = choose_attributes(manifest, settings, labels)
    check_columns(manifest, attributes)
    check_checkpoints(settings, attributes)
    calibrations = read_calibrations(settings, attributes)
    attributes = tuple(with_review(attribute, calibrations.get(attribute.name)) for attribute in attributes)
    settings = settings.model_copy(update={"attributes": attributes})
    return Job(manifest=manifest, settings=settings, policy=policy_of(manifest, settings), calibrations=calibrations)


def _open_previous(place: Path | str, space: Workspace, manifest: Manifest, required: bool) -> Path | None:
    """The result of an earlier night, readable here; without one ManifestError if it is required, else None."""
    try:
        if not required and (kind(str(place)) is None if is_remote(place) else not Path(place).exists()):
            return None
        path = space.local(place)
        if path.resolve() not in {file.resolve() for file in manifest.files}:  # in place: it has been checked
            check(str(path.absolute()))
        open_results(path).close()
    except (ManifestError, OSError):
        if required:
            raise
        return None
    return path


def gather_settings(
    manifest: str,
    config: str | Path | Mapping[str, Any] | None = None,
    *,
    model: str | Path | None = None,
    revision: str | None = None,
    backend: str | None = None,
    precision: str | None = None,
    image_column: str | None = None,
    image_root: str | Path | None = None,
    image_timeout: float | None = None,
    allow_formats: Sequence[str] | None = None,
    cache: str | Path | bool | None = None,
    exact_preprocessing: bool = False,
) -> Settings:
    """The settings file, or the mapping, with the options on top."""
    if isinstance(config, Mapping):
        settings = parse_settings(config, where="config")
    else:
        path = Path() if is_remote(manifest) else Path(manifest)
        file = Path(config) if config is not None else find_settings_file(path if path.is_dir() else path.parent)
        settings = read_settings(file) if file else Settings()
        if file:
            log.info("settings: %s", file)
    if model is not None:  # another model: the file's revision is not its revision
        settings = _replace(settings, "model", name=str(model), revision=revision)
    elif revision is not None:
        settings = _replace(settings, "model", revision=revision)
    if commit := commit_of(settings.model.name):  # a pinned copy knows better
        settings = _replace(settings, "model", revision=commit)
    settings = _override(settings, "model", backend=backend, precision=precision)
    if exact_preprocessing:
        settings = _replace(settings, "model", exact_preprocessing=True)
    if image_column is not None:
        settings = _replace(settings, "manifest", image_column=image_column)
    if image_root is not None:
        settings = _replace(settings, "manifest", image_root=str(image_root))
    if isinstance(cache, bool):
        settings = _replace(settings, "cache", enabled=cache)
    elif cache is not None:
        settings = _replace(settings, "cache", enabled=True, folder=str(cache))
    return _override(settings, "images", timeout=image_timeout, allow_formats=allow_formats)


def _override(settings: Settings, section: str, **options: Any) -> Settings:
    """Those options that were given, checked as the settings file is."""
    given = {key: value for key, value in options.items() if value is not None}
    checked = getattr(parse_settings({section: given}, where="options"), section)
    return _replace(settings, section, **{key: getattr(checked, key) for key in given})


def policy_of(manifest: Manifest, settings: Settings) -> ImagePolicy:
    images = settings.images
    roots = [Path(settings.manifest.image_root or manifest.folder)]
    if not roots[0].is_dir():
        raise ConfigError(
            f"image root {roots[0]}: expected a folder of this machine, found none; correct --image-root or [manifest] image_root"
        )
    if settings.manifest.image_root is None and is_remote(manifest.name):
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


def _replace(settings: Settings, table: str, **values: Any) -> Settings:
    return settings.model_copy(update={table: getattr(settings, table).model_copy(update=values)})


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
