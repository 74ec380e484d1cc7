"""Open what a run has left: its result, the summary beside it, and the rules by which its images may be read again."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from tagger.catalog import object_storage
from tagger.catalog.object_storage import Workspace
from tagger.catalog.outputs import published_name, run_folder
from tagger.catalog.remote_results import run_url
from tagger.catalog.results import aside_of, open_results
from tagger.catalog.sandbox import read_elsewhere
from tagger.catalog.schemas import IMAGE_COLUMNS, is_image, tagger_metadata
from tagger.core.errors import ManifestError
from tagger.core.files import reason
from tagger.core.types import ImagePolicy
from tagger.core.urls import is_object_url, with_lower_scheme
from tagger.inference.job import image_policy
from tagger.inference.store import Store, store_of
from tagger.reports.stored_summary import parse_summary
from tagger.reports.summary import RunSummary
from tagger.settings.attributes import Attribute
from tagger.settings.load import parse_settings
from tagger.settings.schema import Settings

log = logging.getLogger(__name__)

SUMMARY = "summary.json"


@dataclass(frozen=True, kw_only=True)
class FinishedRun:
    """A result and what belongs to it.

    result: the file, or its copy. place: the file or URL as a person names it. folder: the run folder, a path or a URL.
    summary: None where there is none of this result. attributes: with the thresholds that the run had, if they are known.
    slices: the columns whose values are evaluated each for itself. image_column: None where none is known; then no image can
    be read. policy: the images that the run was allowed to read. store: where it has kept what it knew of them.
    """

    result: Path
    place: Path | str
    folder: Path | str
    summary: RunSummary | None
    attributes: tuple[Attribute, ...]
    slices: tuple[str, ...]
    image_column: str | None
    id_column: str | None
    policy: ImagePolicy
    store: Store


def open_finished(name: str | Path, space: Workspace, image_root: Path | None = None) -> FinishedRun:
    """Open a result, published or rejected, or the run folder of one; here or on a store, from where it is copied to `space`.

    image_root: where image paths start, if it is not where they started in the run. Raises ManifestError, ConfigError.
    """
    place = _place_of(name)
    result = space.local(place)
    read_elsewhere(result)
    published = published_name(str(place))
    folder = run_url(published) if is_object_url(published) else run_folder(Path(published))
    summary = _read_summary(folder, place, space)
    with open_results(result) as file:
        return describe_run(file, result=result, place=place, folder=folder, summary=summary, image_root=image_root)


def describe_run(
    file: pq.ParquetFile,
    *,
    result: Path,
    place: Path | str,
    folder: Path | str,
    summary: RunSummary | None,
    image_root: Path | None = None,
) -> FinishedRun:
    """Return what belongs to an opened result; the values are those of FinishedRun. Raises ConfigError."""
    schema = file.schema_arrow
    if summary is not None:
        settings = parse_settings(summary.settings, where=f"{folder}/{SUMMARY}")
        root = None if settings.manifest.image_root is None else Path(settings.manifest.image_root)
    else:
        settings = Settings()
        root = None if is_object_url(place) else Path(place).absolute().parent
    candidates = [settings.manifest.image_column] if settings.manifest.image_column else IMAGE_COLUMNS
    usable = (column for column in candidates if column in schema.names and is_image(schema.field(column).type))
    id_column = settings.manifest.id_column
    return FinishedRun(
        result=result,
        place=place,
        folder=folder,
        summary=summary,
        attributes=_attributes(schema, settings),
        slices=settings.report.slices,
        image_column=next(usable, None),
        id_column=id_column if id_column in schema.names else None,
        store=store_of(settings.cache),
        policy=image_policy(settings, (image_root or root) and Path(image_root or root or "").resolve()),
    )


def _attributes(schema: pa.Schema, settings: Settings) -> tuple[Attribute, ...]:
    """Return the attributes of a result: labels by its own metadata, as a summary leaves out secrets of URLs; thresholds by
    the settings."""
    named = {one.name: one for one in settings.attributes}
    found = []
    for item in tagger_metadata(schema)["attributes"]:
        values, known = {key: item[key] for key in ("name", "labels", "truth_column")}, named.get(item["name"])
        if known is not None and len(known.labels) == len(item["labels"]):
            pairs = zip(item["labels"], known.labels, strict=True)
            values["labels"] = [{"name": label, "review_below": own.review_below} for label, own in pairs]
            values["review_below"] = known.review_below
        values["unknown"] = "unknown" in item
        found.append(Attribute.model_validate(values))
    return tuple(found)


def _place_of(name: str | Path) -> Path | str:
    """Return the result that a name means: itself, or the one that a run folder's summary is about. Raises ManifestError."""
    if is_object_url(name):
        url = with_lower_scheme(str(name)).rstrip("/")
        return f"{url.removesuffix('.run')}.parquet" if url.endswith(".run") else url
    folder = Path(name)
    if not folder.is_dir():
        return folder
    published = folder.absolute().parent / f"{folder.absolute().name.removesuffix('.run')}.parquet"
    found = [path for path in (published, aside_of(published)) if path.is_file()]
    if not found:
        raise ManifestError(f"{name}: expected a result, or the .run folder beside one, found neither; name the result")
    # Where both are there, the rejected one is the later.
    return found[-1]


def _read_summary(folder: Path | str, place: Path | str, space: Workspace) -> RunSummary | None:
    """Return the summary in a run folder; None, with a warning, where it cannot be read or is that of another result."""
    try:
        if isinstance(folder, str):
            if SUMMARY not in object_storage.list_folder(folder):
                raise FileNotFoundError("no such object")
            object_storage.get(folder, [SUMMARY], space.folder)
            file = space.folder / SUMMARY
        else:
            file = folder / SUMMARY
        summary = parse_summary(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        what = reason(error) if isinstance(error, OSError) else str(error).splitlines()[0]
        log.warning("%s/%s: expected the summary of a run, found: %s; going on with the result alone", folder, SUMMARY, what)
        return None
    if Path(str(summary.output)).name != Path(str(place)).name:
        log.warning("%s/%s: is about %s; going on with the result alone", folder, SUMMARY, summary.output)
        return None
    return summary
