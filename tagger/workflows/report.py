"""`tagger report`: what a run has left -> report.html, and its pictures as PNG; the run itself calls it at its end."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from math import inf
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from tagger.catalog.manifest import READ_BUFFER
from tagger.catalog.object_storage import Workspace, put
from tagger.catalog.outputs import published_name, run_folder
from tagger.catalog.remote_results import run_url
from tagger.catalog.results import open_results
from tagger.catalog.row_lookup import read_rows, stream_refs
from tagger.catalog.schemas import is_bytes
from tagger.core import shutdown
from tagger.core.errors import StoppedError
from tagger.core.files import reason, write_bytes
from tagger.core.text import first_line
from tagger.core.urls import is_object_url
from tagger.evaluation.confidence import AttributeConfidence, Confidences
from tagger.evaluation.metrics import AttributeEvaluation, Evaluation, Evaluator
from tagger.evaluation.slices import Slicer, SliceTable
from tagger.images.workers import choose_workers, start_early
from tagger.inference.kept_thumbnails import keep_thumbnails
from tagger.reports.attribute_section import example_cells
from tagger.reports.gallery import Gallery, GalleryChooser, Question
from tagger.reports.history import EarlierRun, read_earlier_runs
from tagger.reports.html import Picture, Report, write_page
from tagger.reports.shown_rows import ShownRow, columns_of_rows, shown_rows
from tagger.reports.summary import RunSummary
from tagger.workflows.findings import largest_groups, picture_groups, suspicious_truth
from tagger.workflows.finished_run import FinishedRun, describe_run, open_finished
from tagger.workflows.plan import Plan

log = logging.getLogger(__name__)

PAGE = "report.html"
NIGHTS = 14  # earlier runs that are listed
PICTURE_SECONDS = 60.0  # that a run spends on pictures, where a server is slow
SUSPECTS = 12  # rows of an attribute whose truth looks wrong
REPEATED, OF_A_GROUP = 8, 3  # groups of nearly the same pictures, and pictures of each
COMPARED = 200_000  # rows whose pictures are compared, so that the report of many more takes no longer
BATCH = 1 << 16  # rows that are looked at together


def report(
    result: str | Path,
    *,
    slices: Sequence[str] = (),
    output: str | Path | None = None,
    image_root: str | Path | None = None,
    workers: int | None = None,
) -> str:
    """Build the report of a finished run again; return where it is.

    result: what the run wrote, published or rejected, or its run folder; here or on a store. slices: columns whose values are
    evaluated each for itself; default: those of the run's settings. output: the page's file; default:
    report.html in the run folder. image_root: where image paths start, if not where they did in the run. Raises ManifestError,
    ConfigError, UsageError, StoppedError.
    """
    if workers != 0:
        start_early()
    with Workspace() as space:
        run = open_finished(result, space, None if image_root is None else Path(image_root))
        files = build_report(replace(run, slices=tuple(slices) or run.slices), workers)
        try:
            return _write(run, files, None if output is None else Path(output))
        except OSError as error:
            raise StoppedError(
                f"{output or run.folder}: expected to write the report, found: {reason(error)}; free the disk, or choose another "
                "--output"
            ) from error


def report_on(plan: Plan, summary: RunSummary, workers: int | None) -> None:
    """Write the report of a run that has just written its results; where that fails a warning says so, and no more."""
    folder = run_url(plan.url) if plan.url is not None else plan.run_folder
    try:
        result = plan.output if plan.url is not None else Path(summary.output)
        with open_results(result) as file:
            run = describe_run(file, result=result, place=summary.output, folder=folder, summary=summary)
        files = build_report(run, workers, summary.evaluation or Evaluation({}), seconds=PICTURE_SECONDS)
        _write(run, files, None)
    except Exception as error:  # noqa: BLE001  # whatever is wrong with a page, the night's results are complete
        log.warning(
            "%s/%s: expected to write it, found: %s; the results are complete; `tagger report` builds it again",
            folder,
            PAGE,
            first_line(error),
        )


def build_report(
    run: FinishedRun, workers: int | None, evaluation: Evaluation | None = None, seconds: float = inf
) -> dict[str, bytes]:
    """Return the files of a report: name -> content.

    evaluation: the result's; default: it is evaluated here. seconds: after which no more pictures are read. Raises pyarrow's
    errors and OSError where the result cannot be read, StoppedError where a stop was asked for.
    """
    from tagger.reports.report_files import draw_files  # matplotlib takes its time

    with pq.ParquetFile(run.result, buffer_size=READ_BUFFER, pre_buffer=False) as file:
        evaluation = evaluation or _evaluate(run, file)
        gallery, confidence, slices = _look(run, file, evaluation.attributes)
        changed = run.summary.changed_labels.values() if run.summary else ()
        rows_changed = [one.row for item in changed for one in item.examples if one.row < file.metadata.num_rows]
        gallery = replace(
            gallery,
            changed=rows_changed,
            suspects={one.name: suspicious_truth(run, file, one)[:SUSPECTS].tolist() for one in run.attributes},
            repeated=_repeated(run, file.metadata.num_rows),
            compared=min(file.metadata.num_rows, COMPARED),
        )
        rows = _read_shown(run, file, gallery)
        workers = choose_workers("cpu") if workers is None else workers
        report = Report(
            place=run.place,
            summary=run.summary,
            total=file.metadata.num_rows,
            attributes=run.attributes,
            evaluation=evaluation.attributes,
            confidence=confidence,
            slices=slices,
            earlier=_earlier(run),
            gallery=gallery,
            rows=rows,
            pictures=dict(_pictures(run, file, gallery, workers, time.monotonic() + seconds)),
        )
    return {PAGE: write_page(report).encode(), **draw_files(report)}


def _write(run: FinishedRun, files: Mapping[str, bytes], output: Path | None) -> str:
    """Write the page, to `output` or into the run folder, and what belongs to it beside it; return where it is. OSError."""
    for name, content in files.items():
        if output is not None:
            write_bytes(output if name == PAGE else output.with_name(name), content)
        elif isinstance(run.folder, Path):
            run.folder.mkdir(exist_ok=True)
            write_bytes(run.folder / name, content)
        else:
            copy = run.result.with_name(name)
            copy.write_bytes(content)
            put(copy, f"{run.folder}/{name}")
    return f"{run.folder}/{PAGE}" if output is None else str(output)


def _evaluate(run: FinishedRun, file: pq.ParquetFile) -> Evaluation:
    truths = {one.name: (one.truth_column, one.label_names) for one in run.attributes if one.truth_column}
    unknown = [one.name for one in run.attributes if one.unknown]
    evaluator = Evaluator(truths, with_unknown=unknown)
    columns = [column for name, (truth, _) in truths.items() for column in (truth, f"{name}_label", f"{name}_source")]
    columns += [f"{name}_known" if name in unknown else f"{name}_confidence" for name in truths]
    if truths:
        for batch in _batches(file, columns):
            evaluator.update(pa.Table.from_batches([batch]))
    return evaluator.result()


def _look(
    run: FinishedRun, file: pq.ParquetFile, evaluation: Mapping[str, AttributeEvaluation]
) -> tuple[Gallery, Mapping[str, AttributeConfidence], Sequence[SliceTable]]:
    """Look at every row once: which ones are shown, how well confidences tell what is right, and how good each slice is."""
    questions = {
        one.name: Question(
            labels=one.label_names,
            truth_column=one.truth_column,
            cells=example_cells(evaluation[one.name], len(evaluation)) if one.name in evaluation else (),
        )
        for one in run.attributes
    }
    chooser = GalleryChooser(questions, _group_starts(file) if _has_images(run, file) else ())
    truths = {one.name: (one.truth_column, one.label_names) for one in run.attributes if one.truth_column}
    confidences, slicer = Confidences(truths), Slicer(file.schema_arrow, run.slices, truths)
    for batch in _batches(file, [*chooser.columns, *run.slices]):
        table = pa.Table.from_batches([batch])
        chooser.update(batch)
        confidences.update(table)
        slicer.update(table)
    return chooser.result(), confidences.result(), slicer.result()


def _repeated(run: FinishedRun, rows: int) -> list[tuple[int, list[int]]]:
    """Return the largest groups of nearly the same pictures among the first rows: how many rows, and the first of them."""
    groups = picture_groups(run, rows, COMPARED)
    found = [] if groups is None else largest_groups(groups, REPEATED)
    return [(len(group), group[:OF_A_GROUP].tolist()) for group in found]


def _earlier(run: FinishedRun) -> list[EarlierRun]:
    """Return the runs before this one, by the logs in its own run folder and in the earlier result's, if on this machine."""
    if run.summary is None or not isinstance(run.folder, Path):
        return []
    folders, previous = [run.folder], run.summary.previous
    if previous is not None and not is_object_url(previous):
        folders.append(run_folder(Path(published_name(previous))))
    return read_earlier_runs(folders, run.summary.run_id, NIGHTS)


def _batches(file: pq.ParquetFile, columns: Sequence[str]) -> Iterator[pa.RecordBatch]:
    for batch in file.iter_batches(BATCH, columns=list(dict.fromkeys(columns))):
        shutdown.check_late()
        yield batch


def _has_images(run: FinishedRun, file: pq.ParquetFile) -> bool:
    """Tell whether the result itself holds the images."""
    if run.image_column is None:
        return False
    kind = file.schema_arrow.field(run.image_column).type
    return is_bytes(kind) or pa.types.is_struct(kind)


def _group_starts(file: pq.ParquetFile) -> list[int]:
    starts = [0]
    for group in range(file.metadata.num_row_groups):
        starts.append(starts[-1] + file.metadata.row_group(group).num_rows)
    return starts[:-1]


def _read_shown(run: FinishedRun, file: pq.ParquetFile, gallery: Gallery) -> dict[int, ShownRow]:
    """Read the rows that the gallery shows, without the images that may lie in them."""
    truths = {one.name: one.truth_column for one in run.attributes}
    labelled = {one.name: (one.truth_column, one.label_names) for one in run.attributes}
    image_column = run.image_column
    columns = columns_of_rows(truths, image_column, run.id_column)
    if image_column is not None and (kind := file.schema_arrow.field(image_column).type):
        stored = [f"{image_column}.path"] if pa.types.is_struct(kind) else [] if is_bytes(kind) else [image_column]
        columns = [name for name in columns if name != image_column or name == run.id_column] + stored
        image_column = image_column if stored else None
    numbers = sorted({*gallery.pictured(), *gallery.listed()})
    return shown_rows(numbers, read_rows(file, numbers, columns), labelled, image_column, run.id_column)


def _pictures(
    run: FinishedRun, file: pq.ParquetFile, gallery: Gallery, workers: int, deadline: float
) -> Iterator[tuple[int, Picture]]:
    """Decode the images that the gallery shows, each once, until the deadline (of time.monotonic)."""
    column = run.image_column
    if column is None:
        return

    for found in keep_thumbnails(stream_refs(file, gallery.pictured(), column), run.policy, run.store, workers=workers):
        shutdown.check_late()
        yield found
        if time.monotonic() > deadline:
            return
