"""A manifest and settings -> a job: what is to be tagged or learned from, checked before any model is loaded."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import pyarrow as pa

from tagger.catalog.manifest import Manifest, open_manifest
from tagger.catalog.object_storage import Workspace
from tagger.catalog.sandbox import read_elsewhere
from tagger.catalog.schemas import is_bytes, is_text
from tagger.core.errors import ConfigError, StoppedError, UsageError
from tagger.core.types import FORMATS, ImagePolicy, QualityLimits
from tagger.core.urls import is_object_url
from tagger.encoders.known_models import check_licence
from tagger.encoders.pinned import commit_of
from tagger.inference.artifacts import Artifacts, check_artifacts, read_artifacts, read_calibrations, with_review
from tagger.inference.labels import check_truth_columns, choose_attributes
from tagger.settings.attributes import Attribute
from tagger.settings.schema import ModelSettings, Settings
from tagger.tagging.calibration import Calibration


@dataclass(frozen=True, kw_only=True)
class Job:
    """The rows of a manifest, the settings with their attributes, which images may be read, and what goes with the model.

    settings: with what was found where they say nothing: labels, image column and root, as another process may need them.
    calibrations: by attribute. artifacts: what checkpoints of `tagger train` say of themselves.
    """

    manifest: Manifest
    settings: Settings
    policy: ImagePolicy
    calibrations: Mapping[str, Calibration]
    artifacts: Artifacts

    @property
    def attributes(self) -> tuple[Attribute, ...]:
        return self.settings.attributes

    @property
    def with_sets(self) -> list[str]:
        """The names of the attributes that have prediction sets."""
        return [attribute.name for attribute in self.attributes if attribute.prediction_sets is not None]

    @property
    def with_unknown(self) -> list[str]:
        """The names of the attributes whose images may be none of the labels."""
        return [attribute.name for attribute in self.attributes if attribute.unknown]


def open_job(name: str, settings: Settings, space: Workspace) -> Job:
    """Open the manifest, its objects copied to `space`, and check settings and files of other commands against it.

    Raises ManifestError, ConfigError, UsageError, ModelError; StoppedError where files change meanwhile.
    """
    manifest = open_checked(name, space, settings.manifest.image_column, settings.manifest.id_column)
    artifacts = read_artifacts(settings)
    attributes = choose_attributes(manifest, settings, artifacts)
    check_truth_columns(manifest, attributes)
    check_slices(manifest, settings.report.slices)
    artifacts = check_artifacts(artifacts, settings, attributes)
    calibrations = read_calibrations(settings, attributes, artifacts)
    attributes = tuple(with_review(attribute, calibrations.get(attribute.name)) for attribute in attributes)
    root = image_root_of(manifest, settings)
    found = {"image_column": manifest.image_column, "image_root": root and str(root)}
    settings = settings.model_copy(
        update={"attributes": attributes, "model": pin(settings.model), "manifest": settings.manifest.model_copy(update=found)}
    )
    policy = image_policy(settings, root)
    return Job(manifest=manifest, settings=settings, policy=policy, calibrations=calibrations, artifacts=artifacts)


def open_checked(
    name: str, space: Workspace, image_column: str | None, id_column: str | None = None, keep_tags: bool = False
) -> Manifest:
    """Open a manifest, its objects copied to `space`, that another process has read to its end; it is let go with `space`.

    keep_tags: as in open_manifest. Raises ManifestError; StoppedError where a file was changed between the two readings.
    """
    files = space.fetch(name) if is_object_url(name) else None
    checked = {tuple(one) for one in read_elsewhere(files.folder if files else name)}
    manifest = open_manifest(name, image_column, id_column, files, keep_tags)
    space.callback(manifest.held.close)
    if not checked.issuperset(manifest.held.identities):
        raise StoppedError(
            f"{name}: expected the files that were checked, found others: they were changed meanwhile; run again when they are "
            "complete"
        )
    return manifest


def pin(model: ModelSettings) -> ModelSettings:
    """Return the model with the commit that its folder was pulled from; ConfigError for another revision, or its licence."""
    if not model.is_resnet18:
        check_licence(model.name, model.allow_licences)
    commit = commit_of(model.name)
    if commit is not None and model.revision not in (None, commit):
        raise ConfigError(
            f"model {model.name}: expected revision {model.revision}, found a copy of {commit}; pull that revision, or leave "
            "--revision and [model] revision out"
        )
    return model.model_copy(update={"revision": commit}) if commit else model


def model_alone(settings: Settings) -> Settings:
    """Return the settings without fallback, heads and calibrations, which do not matter to what is learned from labelled rows."""
    attributes = tuple(one.uncalibrated().model_copy(update={"head": None}) for one in settings.attributes)
    return settings.model_copy(update={"attributes": attributes, "fallback": None})


def without_heads(settings: Settings) -> Settings:
    """Return the settings without heads, and without what was calibrated for them: the prompts decide."""
    left_out = {"head": None, "calibration": None, "prediction_sets": None}
    attributes = tuple(one.model_copy(update=left_out) if one.head else one for one in settings.attributes)
    return settings.model_copy(update={"attributes": attributes})


def one_attribute(attributes: Sequence[Attribute], name: str | None, purpose: str) -> Attribute:
    """Return the attribute `name`, or the only one; UsageError. purpose: a verb that says what it is for."""
    names = [attribute.name for attribute in attributes]
    if name is None and len(names) > 1:
        raise UsageError(f"--attribute: expected one of {', '.join(names)}, found none; name the one to {purpose}")
    if name is not None and name not in names:
        raise UsageError(f"--attribute {name}: expected one of {', '.join(names)}; correct it")
    return attributes[names.index(name) if name else 0]


def with_one_attribute(job: Job, name: str | None) -> Job:
    """Return the job with the one attribute that is learned: `name`, where there are several. UsageError, ConfigError."""
    chosen = one_attribute(job.attributes, name, "learn")
    if chosen.truth_column is None:
        raise ConfigError(
            f'attribute "{chosen.name}": expected a truth_column, whose values are learned, found none; name the column of '
            f"{job.manifest.name} that has the right answers"
        )
    return replace(job, settings=job.settings.model_copy(update={"attributes": (chosen,)}))


def image_root_of(manifest: Manifest, settings: Settings) -> Path | None:
    """Return where image paths start, resolved; None where the manifest is on a store and no folder is named. ConfigError."""
    images, named = settings.images, settings.manifest.image_root
    for other in images.allow_roots:
        if not Path(other).is_dir():
            raise ConfigError(f"images.allow_roots: expected folders, found none at {other}; correct it")
    if named is None and is_object_url(manifest.name):  # not the folder of its copies
        if is_text(manifest.schema.field(manifest.image_column).type) and not (images.allow_buckets or images.allow_hosts):
            raise ConfigError(
                f"{manifest.name}: expected an image root for the paths in {manifest.image_column}, found none; name a folder of "
                "this machine with --image-root, or list [images] allow_buckets or allow_hosts if they are URLs"
            )
        return None
    root = Path(named or manifest.folder)
    if not root.is_dir():
        raise ConfigError(
            f"image root {root}: expected a folder of this machine, found none; correct --image-root or [manifest] image_root"
        )
    return root.resolve()


def image_policy(settings: Settings, root: Path | None) -> ImagePolicy:
    """Return which images may be read: those below the root, if there is one, and what [images] allows; [quality] judges them."""
    images = settings.images
    return ImagePolicy(
        roots=(*filter(None, [root]), *(Path(other).resolve() for other in images.allow_roots)),
        formats=(*FORMATS, *images.allow_formats),
        timeout=images.timeout,
        hosts=images.allow_hosts,
        buckets=images.allow_buckets,
        private_networks=images.allow_private_networks,
        quality=QualityLimits(**settings.quality.model_dump()),
    )


def check_slices(manifest: Manifest, columns: Sequence[str]) -> None:
    """Require columns whose values can be counted; ConfigError."""
    for column in columns:
        if column not in manifest.schema.names:
            raise ConfigError(
                f"report.slices: expected columns of {manifest.name}, found no {column} among "
                f"{', '.join(manifest.schema.names)}; correct it or leave it out"
            )
        if pa.types.is_nested(kind := manifest.schema.field(column).type) or is_bytes(kind):
            raise ConfigError(f"report.slices: expected columns of single values, found {column} of type {kind}; leave it out")
