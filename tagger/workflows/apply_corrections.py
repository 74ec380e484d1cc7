"""`tagger review apply`: people's corrections -> ground truth in the manifest, for the next night to learn from."""

from __future__ import annotations

import logging
import shutil
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple, Unpack
from uuid import uuid4

import pyarrow as pa

from tagger.catalog.corrections import Corrections, collect, name_some, read_csv, read_table
from tagger.catalog.label_studio import read_export
from tagger.catalog.manifest import Manifest
from tagger.catalog.object_storage import Workspace, put
from tagger.catalog.result_fingerprint import ResultFingerprint
from tagger.catalog.sandbox import read_elsewhere
from tagger.catalog.schemas import tagger_metadata
from tagger.catalog.truth_column import Applied, TruthWriter, with_truth
from tagger.core import shutdown
from tagger.core.errors import ConfigError, ManifestError, StoppedError, UsageError
from tagger.core.files import flush, reason, removed_on_failure
from tagger.core.urls import is_object_url
from tagger.inference.artifacts import read_artifacts
from tagger.inference.job import open_checked
from tagger.inference.labels import choose_attributes
from tagger.settings.load import load_settings
from tagger.settings.options import Overrides
from tagger.settings.schema import Settings

log = logging.getLogger(__name__)


class _Question(NamedTuple):
    """The labels of an attribute, and its truth column, None where neither result nor settings name one."""

    labels: Sequence[str]
    truth_column: str | None


def apply_corrections(
    corrections: str | Path,
    manifest: str | Path,
    config: str | Path | Mapping[str, Any] | None = None,
    *,
    output: str | Path | None = None,
    overwrite_truth: bool = False,
    other_result: bool = False,
    **overrides: Unpack[Overrides],
) -> Applied:
    """Write corrections into the truth column of a manifest, or of a result; into the file itself without an `output`.

    corrections: what the page saved, a filled-in CSV or Parquet file, or an export of Label Studio. config, overrides: as of
    the run, for a manifest that is no result. Truth that differs is kept, unless overwrite_truth. other_result: take corrections
    of another result than this one, too; their rows, images and labels are checked all the same. Raises ManifestError for
    corrections that do not fit, and nothing is written then; ConfigError, UsageError, StoppedError.
    """
    name, source = str(manifest), Path(corrections)
    if source.suffix.lower() == ".parquet":
        read_elsewhere(source)
    with Workspace() as space:
        settings = load_settings(name, config, **overrides)
        opened = open_checked(name, space, settings.manifest.image_column, keep_tags=True)
        questions = _questions(opened, settings)
        read = _read_corrections(source, questions)
        if not other_result:
            _require_this_result(opened, read)
        if read.id_column is not None and read.id_column not in opened.schema.names:
            raise ManifestError(
                f"{name}: expected the id column {read.id_column} of the review, found {', '.join(opened.schema.names)}; apply "
                "them to the manifest that was tagged"
            )
        truth = _truth_column(read.attribute, questions)
        writer = TruthWriter(
            opened,
            with_truth(opened, read.attribute, truth),
            truth,
            read,
            overwrite_truth,
            datetime.now(UTC).replace(microsecond=0),
        )
        applied = _publish(writer, opened, name, space, output)
    if applied.kept:
        log.warning(
            "%s: %d rows have other truth, which stays (--overwrite-truth replaces it): %s",
            name,
            len(applied.kept),
            name_some(applied.kept),
        )
    return applied


def _questions(manifest: Manifest, settings: Settings) -> dict[str, _Question]:
    """Return attribute -> question: those of the result that the manifest is, else those of the settings, as a run has them."""
    truths = {one.name: one.truth_column for one in settings.attributes}
    described = tagger_metadata(manifest.schema).get("attributes", ())
    if described and settings.labels is None:
        return {one["name"]: _Question(one["labels"], one["truth_column"] or truths.get(one["name"])) for one in described}
    attributes = choose_attributes(manifest, settings, read_artifacts(settings))
    return {one.name: _Question(one.label_names, one.truth_column) for one in attributes}


def _truth_column(attribute: str, questions: Mapping[str, _Question]) -> str:
    column = questions[attribute].truth_column
    if column is None:
        raise ConfigError(
            f'attribute "{attribute}": expected a truth_column for the corrections to go to, found none; write truth_column = '
            f'"{attribute}_truth" below name = "{attribute}" in tagger.toml: it is made in the manifest'
        )
    return column


def _read_corrections(file: Path, questions: Mapping[str, _Question]) -> Corrections:
    labels = {name: one.labels for name, one in questions.items()}
    kind = file.suffix.lower()
    if kind == ".parquet":
        rows = read_table(file)
    elif kind == ".json":
        rows = read_export(file, [label for names in labels.values() for label in names])
    else:
        rows = read_csv(file)
    return collect(rows, labels, str(file))


def _require_this_result(manifest: Manifest, corrections: Corrections) -> None:
    """Where the manifest is a result, require it to be the one that was reviewed; ManifestError."""
    names = [item["name"] for item in tagger_metadata(manifest.schema).get("attributes", ())]
    if corrections.attribute not in names:
        return
    fingerprint = ResultFingerprint(manifest.schema, corrections.attribute)
    if missing := [name for name in fingerprint.columns if name not in manifest.schema.names]:
        raise ManifestError(f"{manifest.name}: expected the columns of a result, found no {', '.join(missing)}; tag it again")
    for batch in manifest.batches(fingerprint.columns):
        shutdown.check()
        fingerprint.update(batch)
    if fingerprint.result() != corrections.result:
        raise ManifestError(
            f"{manifest.name}: expected corrections of this result, found those of another one; apply them to the manifest that "
            "was tagged, or say --other-result if only the tags have changed"
        )


def _publish(writer: TruthWriter, manifest: Manifest, name: str, space: Workspace, output: str | Path | None) -> Applied:
    """Write beside the target, then rename, or put, if there is anything to change; StoppedError where that fails."""
    target = _target(manifest, name, output)
    local = target if isinstance(target, Path) else space.folder / "corrected.parquet"
    digest = manifest.digests[0] if output is None else b""  # of what is about to be read
    try:
        with removed_on_failure(local.with_name(f".{local.name}.{uuid4().hex}.tmp")) as temporary:
            applied = writer.write(temporary)
            if output is None and not applied.changed:
                temporary.unlink()
                return applied
            applied.output = target
            if local.exists():
                shutil.copymode(local, temporary)
            if output is None and isinstance(target, Path) and not manifest.held.is_still(target, digest):
                raise StoppedError(f"{name}: expected it unchanged, found that it was written meanwhile; run again")
            manifest.held.require_unchanged()
            shutdown.publishing()
            temporary.replace(local)
        if isinstance(target, Path):
            flush(target.parent)
        else:
            put(local, target)
    except (OSError, pa.ArrowException) as error:
        raise StoppedError(
            f"{target}: expected to write the corrections, found: {reason(error)}; nothing has changed; free the disk, and run "
            "again"
        ) from error
    return applied


def _target(manifest: Manifest, name: str, output: str | Path | None) -> Path | str:
    if output is None:
        if len(manifest.files) > 1 or not (is_object_url(name) or Path(name).is_file()):
            raise UsageError(f"{name}: expected a manifest of one file to write into, found {len(manifest.files)}; use --output")
        return name if is_object_url(name) else Path(name).resolve()
    if is_object_url(output):
        return str(output)
    target = Path(output).absolute()
    if target.resolve() in {file.resolve() for file in manifest.files}:
        raise UsageError(f"{output}: expected another file than the manifest; leave --output out to write into it")
    if target.is_dir() or not target.parent.is_dir():
        raise UsageError(f"{output}: expected a file in an existing folder, found none; correct --output")
    if target.exists():
        raise UsageError(f"{output}: expected no file, found one; choose another --output")
    return target
