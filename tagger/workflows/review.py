"""`tagger review`: a result -> a page, or a file for other tools, on which a person corrects the tags that teach most."""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal, get_args

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from tagger.catalog.label_studio import to_config, to_tasks
from tagger.catalog.manifest import READ_BUFFER
from tagger.catalog.object_storage import Workspace, put
from tagger.catalog.result_fingerprint import ResultFingerprint
from tagger.catalog.review_table import Review, ReviewItem, image_hash, to_csv, to_parquet
from tagger.catalog.row_lookup import read_rows, stream_refs
from tagger.catalog.schemas import is_bytes, tagger_metadata
from tagger.catalog.truth_column import NOTE
from tagger.core import shutdown
from tagger.core.errors import ManifestError, StoppedError, UsageError
from tagger.core.files import reason, write_bytes
from tagger.core.text import without_secrets
from tagger.core.types import ImageRef
from tagger.images.thumbnails import Thumbnail, read_thumbnails
from tagger.images.workers import choose_workers, start_early
from tagger.inference.job import one_attribute
from tagger.reports.review_page import write_review_page
from tagger.reports.review_queue import ASKED, DOUBTED, SUSPECT, Asking, QueueBuilder, Queued, doubted_labels
from tagger.settings.attributes import Attribute
from tagger.workflows.findings import picture_groups, suspicious_truth
from tagger.workflows.finished_run import FinishedRun, open_finished

log = logging.getLogger(__name__)

ReviewFormat = Literal["html", "label-studio", "csv", "parquet"]

SUFFIXES = {"html": ".html", "label-studio": ".json", "csv": ".csv", "parquet": ".parquet"}
SIDE = 384  # pixels of a picture's longer side: enough to judge, 10 to 25 KB of a page
BATCH = 1 << 16  # rows that are looked at together
MANY_BYTES = 64 << 20  # of a page, from which on a phone has trouble


def review(
    result: str | Path,
    *,
    format: ReviewFormat = "html",
    attribute: str | None = None,
    budget: int = 200,
    output: str | Path | None = None,
    image_root: str | Path | None = None,
    workers: int | None = None,
) -> list[str]:
    """Write the rows of a result whose correction teaches most, `budget` of them, to be corrected; return where they are.

    result: what a run wrote, or its run folder; here or on a store. format: "html" is a page that works from disk; of
    "label-studio", the tasks come first, then the labelling interface. attribute: which, where there are several. output:
    default: review.html, .json, .csv or .parquet in the run folder. image_root: where image paths start, if not where they
    did in the run. Raises ManifestError, UsageError, ConfigError, StoppedError.
    """
    if format not in get_args(ReviewFormat):
        raise UsageError(f"--format: expected one of {', '.join(get_args(ReviewFormat))}, found {format}; correct it")
    if budget < 1:
        raise UsageError(f"--budget: expected a number of rows from 1 on, found {budget}; correct it")
    pictured = format in ("html", "label-studio")
    if pictured and workers != 0:
        start_early()
    with Workspace() as space:
        run = open_finished(result, space, None if image_root is None else Path(image_root))
        chosen = one_attribute(run.attributes, attribute, "review")
        with pq.ParquetFile(run.result, buffer_size=READ_BUFFER, pre_buffer=False) as file:
            asked = _ask(run, file, chosen, budget, (choose_workers("cpu") if workers is None else workers) if pictured else None)
        return _write(run, format, asked, None if output is None else Path(output))


@dataclass(frozen=True)
class _Asked:
    """What is asked, and the items' pictures; none for formats without."""

    review: Review
    pictures: list[Thumbnail] = field(default_factory=list)


def _ask(run: FinishedRun, file: pq.ParquetFile, attribute: Attribute, budget: int, workers: int | None) -> _Asked:
    """Choose the rows, and look at their pictures, unless `workers` is None, to ask about each picture once."""
    schema = file.schema_arrow
    doubted: dict[str, float] = {}
    if run.summary is not None and run.summary.evaluation is not None and attribute.name in run.summary.evaluation.attributes:
        per_class = run.summary.evaluation.attributes[attribute.name].per_class
        doubted = doubted_labels(attribute.name, run.summary.gates, per_class)
    truth = attribute.truth_column if attribute.truth_column in schema.names else None
    note = f"{truth}{NOTE}"
    asking = Asking(
        attribute=attribute.name,
        labels=attribute.label_names,
        only=len(run.attributes) == 1,
        truth_column=truth,
        note_column=note if note in schema.names else None,
        image_column=None if run.image_column is None or is_bytes(schema.field(run.image_column).type) else run.image_column,
        doubted=doubted,
        suspects=suspicious_truth(run, file, attribute).tolist(),
        groups=picture_groups(run, file.metadata.num_rows),
    )
    queue, fingerprint = _queue(file, asking, budget)
    items = _items(run, file, asking, queue, doubted)
    chosen, pictures = _look(run, file, items, budget, workers)
    described = tagger_metadata(schema)["model"]
    model = f"{without_secrets(str(described.get('name')))} {str(described.get('fingerprint') or '')[:8]}".strip()
    return _Asked(
        Review(
            attribute=attribute.name,
            labels=attribute.label_names,
            id_column=run.id_column,
            result=fingerprint,
            model=model,
            items=tuple(chosen),
        ),
        pictures,
    )


def _queue(file: pq.ParquetFile, asking: Asking, budget: int) -> tuple[list[Queued], str]:
    """Read the result once; return its rows in the order in which they are asked about, and its fingerprint."""
    builder, fingerprint = QueueBuilder(asking, budget), ResultFingerprint(file.schema_arrow, asking.attribute)
    names = [f"{asking.attribute}_top", "tag_status", "tag_reason", asking.truth_column, asking.note_column]
    image = asking.image_column
    if image is not None:
        names.append(f"{image}.path" if pa.types.is_struct(file.schema_arrow.field(image).type) else image)
    for batch in file.iter_batches(BATCH, columns=list(dict.fromkeys([*fingerprint.columns, *filter(None, names)]))):
        shutdown.check()
        builder.update(batch)
        fingerprint.update(batch)
    return builder.result(), fingerprint.result()


def _items(
    run: FinishedRun, file: pq.ParquetFile, asking: Asking, queue: Sequence[Queued], doubted: dict[str, float]
) -> dict[int, ReviewItem]:
    """Return what is known of the queued rows, but for their images, by row, in order; those without an id are left out."""
    name = asking.attribute
    columns = [f"{name}_top", "tag_reason", *filter(None, [asking.truth_column, run.id_column])]
    table = read_rows(file, [one.row for one in queue], list(dict.fromkeys(columns)))
    ids = [None] * len(queue) if run.id_column is None else pc.cast(table[run.id_column], pa.string()).to_pylist()
    truths = [None] * len(queue) if asking.truth_column is None else table[asking.truth_column].to_pylist()
    found = {}
    for place, one in enumerate(queue):
        if run.id_column is not None and not ids[place]:
            continue
        top = tuple((item["label"], item["confidence"]) for item in table[f"{name}_top"][place].as_py())
        label, _ = top[0]
        why = {
            SUSPECT: f"suspicious truth: {truths[place]}",
            ASKED: table["tag_reason"][place].as_py() or "review",
            DOUBTED: f"gate failed: F1 of {label} is {doubted.get(label, 0):.3f}",
        }.get(one.kind, f"close call: {one.margin:.3f} between the best two")
        found[one.row] = ReviewItem(id=ids[place], image=None, image_hash="", top=top, reason=why, truth=truths[place])
    return found


def _look(
    run: FinishedRun, file: pq.ParquetFile, items: dict[int, ReviewItem], budget: int, workers: int | None
) -> tuple[list[ReviewItem], list[Thumbnail]]:
    """Return up to `budget` of the queued rows, in order, with their images' names, and their pictures if there are `workers`.

    Of images with the same bytes, or the same pixels at this size, the first is taken; those that cannot be read are left out.
    """
    named = {
        ref.row: replace(items[ref.row], image=ref.path, image_hash=image_hash(ref)) for ref in _references(run, file, items)
    }
    distinct = {named[row].image_hash: row for row in reversed(items)}
    waiting = [row for row in items if distinct[named[row].image_hash] == row]
    if workers is None:
        return [named[row] for row in waiting[:budget]], []
    chosen: dict[bytes, tuple[ReviewItem, Thumbnail]] = {}
    unread = 0
    while waiting and len(chosen) < budget:
        missing = budget - len(chosen)
        part, waiting = waiting[:missing], waiting[missing:]
        pictures = dict(read_thumbnails(_references(run, file, part), run.policy, side=SIDE, workers=workers))
        for row in part:
            picture = pictures[row]
            if isinstance(picture, Thumbnail):
                chosen.setdefault(picture.data, (named[row], picture))
            else:
                unread += 1
    if unread:
        log.warning("%s: %d images that were tagged cannot be read now; they are left out", run.place, unread)
    return [item for item, _ in chosen.values()], [picture for _, picture in chosen.values()]


def _references(run: FinishedRun, file: pq.ParquetFile, rows: Collection[int]) -> Iterator[ImageRef]:
    """Yield the references of these rows, ascending; a few embedded images are in memory at a time. Raises ManifestError."""
    column = run.image_column
    if column is None:
        raise ManifestError(
            f"{run.place}: expected the images that were tagged, found no column of them; set image_column and tag again"
        )
    for ref in stream_refs(file, list(rows), column):
        shutdown.check()
        yield ref


def _write(run: FinishedRun, kind: ReviewFormat, asked: _Asked, output: Path | None) -> list[str]:
    """Write the files of a format; return where they are."""
    review, name = asked.review, Path(str(run.place)).name
    if not review.items:
        log.warning("%s: no row has a tag to ask about; all have truth, or none was tagged", run.place)
    files: dict[str, Callable[[], bytes]] = {
        "html": lambda: write_review_page(review, asked.pictures, name).encode(),
        "label-studio": lambda: to_tasks(review, [one.uri for one in asked.pictures]),
        "csv": lambda: to_csv(review),
        "parquet": lambda: to_parquet(review),
    }
    contents = {SUFFIXES[kind]: files[kind]()}
    if kind == "label-studio":
        contents[".xml"] = to_config(review).encode()
    places = []
    for suffix, content in contents.items():
        default = f"{run.folder}/review{suffix}"
        place = default if output is None else str(output if suffix == SUFFIXES[kind] else output.with_suffix(suffix))
        _put(run, place, content, stored=output is None and isinstance(run.folder, str))
        places.append(place)
    size = sum(map(len, contents.values()))
    log.info("%s: %d rows, %.1f MB", places[0], len(review.items), size / 1e6)
    if size > MANY_BYTES:
        log.warning("%s: %.0f MB is much for a browser; a smaller --budget makes less", places[0], size / 1e6)
    return places


def _put(run: FinishedRun, place: str, content: bytes, stored: bool) -> None:
    try:
        if stored:
            copy = run.result.with_name(Path(place).name)
            copy.write_bytes(content)
            put(copy, place)
            return
        if isinstance(run.folder, Path) and Path(place).parent == run.folder:
            run.folder.mkdir(exist_ok=True)
        write_bytes(Path(place), content)
    except OSError as error:
        raise StoppedError(
            f"{place}: expected to write the review, found: {reason(error)}; free the disk, or choose another --output"
        ) from error
