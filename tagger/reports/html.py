"""report.html: what a run did, and whether its tags can be used, for people; one page, under MAX_BYTES at any size."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from tagger.core.errors import ImageError
from tagger.evaluation.confidence import AttributeConfidence
from tagger.evaluation.gates import GATES
from tagger.evaluation.metrics import AttributeEvaluation
from tagger.evaluation.slices import SliceTable
from tagger.images.thumbnails import Thumbnail
from tagger.reports.attribute_section import attribute_section, interval
from tagger.reports.gallery import Gallery
from tagger.reports.history import EarlierRun
from tagger.reports.page import percent, render
from tagger.reports.shown_rows import ShownRow
from tagger.reports.since_section import since_section
from tagger.reports.summary import RunSummary
from tagger.settings.attributes import Attribute

MAX_BYTES = 5_000_000
PICTURE_BYTES = 3_200_000  # of all `data:` URIs, before any is left out
# What is left out, step by step, until the page is small enough: pictures, and what long titles say beyond so many characters.
STEPS = ((PICTURE_BYTES, None), (PICTURE_BYTES, 200), (PICTURE_BYTES // 2, 60), (0, 1))
SLICES = 200  # that are shown, of all columns and attributes

Picture = Thumbnail | ImageError


@dataclass(frozen=True, kw_only=True)
class Report:
    """What a page is made of.

    place: the result as a person names it. summary: None where there is none of this result. evaluation, confidence: by
    attribute, of those with a truth column. earlier: runs before this one. rows: those of the gallery.
    pictures: row -> its picture, or why there is none.
    """

    place: Path | str
    summary: RunSummary | None
    total: int
    attributes: Sequence[Attribute]
    evaluation: Mapping[str, AttributeEvaluation]
    gallery: Gallery
    rows: Mapping[int, ShownRow]
    pictures: Mapping[int, Picture]
    confidence: Mapping[str, AttributeConfidence] = field(default_factory=dict)
    slices: Sequence[SliceTable] = ()
    earlier: Sequence[EarlierRun] = ()


def write_page(report: Report) -> str:
    """Return the page; its UTF-8 is never longer than MAX_BYTES."""
    for picture_bytes, longest_title in STEPS:
        html = _page(report, picture_bytes, longest_title)
        if len(html.encode()) <= MAX_BYTES:
            break
    return html


def _page(report: Report, picture_bytes: int, longest_title: int | None) -> str:
    pictures = _within(picture_bytes, report.gallery.pictured(), report.pictures)
    summary = report.summary
    return render(
        "report.html",
        longest_title=longest_title,
        report=report,
        summary=summary,
        name=Path(str(report.place)).name,
        counts=_status_counts(report),
        tiles=_tiles(report),
        verdict_notes=_notes(report),
        error_counts=report.gallery.error_counts,
        gallery_errors=_errors(report),
        gates=[] if summary is None else [_gate(gate) for gate in summary.gates],
        facts=_facts(report),
        attributes=[
            attribute_section(
                one,
                report.evaluation.get(one.name),
                report.gallery.attributes[one.name],
                guarantee=None if summary is None else summary.guarantees.get(one.name, {}).get("precision"),
                confidence=report.confidence.get(one.name),
            )
            for one in report.attributes
        ],
        since=since_section(summary, report.earlier, report.rows),
        slices=report.slices,
        slices_shown=SLICES // max(len(report.slices), 1),
        pictures=pictures,
        left_out=sum(row not in pictures for row in report.pictures),
    )


def _within(limit: int, wanted: Sequence[int], pictures: Mapping[int, Picture]) -> dict[int, Picture]:
    """Return the pictures that fit, counted as often as they are shown; once one does not, those after it are left out, too."""
    kept: dict[int, Picture] = {}
    for row in wanted:
        if row not in pictures:
            continue
        picture = pictures[row]
        limit -= len(picture.uri) if isinstance(picture, Thumbnail) else 0
        if limit < 0:
            break
        kept[row] = picture
    return kept


class Tile(NamedTuple):
    """A figure at the top of the page; kind: "good", "warn", "bad" or "" for what is neither."""

    name: str
    value: str
    detail: str = ""
    kind: str = ""


def _status_counts(report: Report) -> dict[str, int]:
    """Return status -> rows."""
    if report.summary is not None:
        return {"tagged": report.summary.tagged, "review": report.summary.review, "error": report.summary.errors.total()}
    errors = sum(report.gallery.error_counts.values())
    return {"without an error": report.total - errors, "error": errors}


def _tiles(report: Report) -> list[Tile]:
    counts, rows = _status_counts(report), max(report.total, 1)
    tiles = [Tile("rows", f"{report.total:,}")]
    for status, count in counts.items():
        kind = "bad" if status == "error" and count else ""
        title = {"review": "to review", "error": "errors"}.get(status, status)
        tiles.append(Tile(title, percent(count / rows), f"{count:,} rows", kind))
    for name, one in report.evaluation.items():
        if one.accuracy is not None:
            tiles.append(Tile(f"accuracy of {name}", percent(one.accuracy), _accuracy_detail(one)))
    if report.summary is not None:
        for name, changed in report.summary.changed_labels.items():
            if changed.rows:
                share = percent(changed.changed / changed.rows)
                tiles.append(Tile(f"{name} changed", share, f"{changed.changed:,} of {changed.rows:,} rows"))
    return tiles


def _accuracy_detail(evaluation: AttributeEvaluation) -> str:
    found = interval(evaluation.accuracy_interval, percent)
    return f"{found} on {evaluation.labelled_rows:,} rows".strip()


def _notes(report: Report) -> list[str]:
    """Return what a reader should know before using the tags."""
    if report.summary is None:
        return []
    uncalibrated = [name for name, kind in report.summary.confidence.items() if kind == "uncalibrated"]
    notes: list[str] = []
    if uncalibrated:
        notes.append(f"The confidences of {', '.join(uncalibrated)} are uncalibrated; see `tagger calibrate`.")
    if "instead_of" in report.summary.model:
        notes.append(f"{report.summary.model['instead_of']} could not be had; its fallback tagged all rows.")
    return notes + report.summary.drift.warnings()


def _errors(report: Report) -> list[tuple[str, str, ShownRow]]:
    """Return code, message and row of the rows with an error that are shown."""
    found = []
    for code, rows in report.gallery.errors.items():
        for number in rows:
            row = report.rows[number]
            found.append((code, (row.reason or "").partition(":")[2].strip(), row))
    return found


def _gate(gate: Any) -> dict[str, Any]:
    show = GATES[gate.gate].show
    bound = "at least" if gate.gate.startswith("min_") else "at most"
    return {
        "gate": gate.gate,
        "attribute": gate.attribute,
        "wanted": f"{bound} {show(gate.wanted)}",
        "found": "nothing to judge" if gate.found is None else show(gate.found),
        "interval": f"{show(gate.interval[0])} to {show(gate.interval[1])}" if gate.interval else "",
        "rows": gate.rows,
        "passed": gate.passed,
        "note": gate.note or "",
    }


def _facts(report: Report) -> list[tuple[str, str]]:
    """Return name and value of what the run was: model, settings, speed."""
    summary = report.summary
    if summary is None:
        return []
    model, served = summary.model, summary.tagged + summary.review - summary.encoded_images
    facts = [
        ("Result", str(summary.output)),
        ("Started", summary.started),
        ("Ended", summary.ended or ""),
        ("Model", model["name"]),
        ("Revision", model.get("revision") or "not named"),
        ("In place of", model.get("instead_of", "")),
        ("Weights", model.get("fingerprint", "")[:16]),
        ("Computed by", " ".join(str(model[key]) for key in ("backend", "precision", "device") if key in model)),
        ("Attributes", ", ".join(f"{one.name} ({len(one.labels)} labels)" for one in report.attributes)),
        ("Confidence", ", ".join(f"{name}: {kind}" for name, kind in summary.confidence.items())),
        ("Speed", f"{summary.images_per_second:,.0f} images/s"),
        ("Encoded", f"{summary.encoded_images:,} images"),
        ("From the cache", f"{max(served, 0):,} images, known from before and not encoded again"),
        ("By the fallback", f"{summary.fallback_images:,} images" if summary.fallback_images else ""),
        ("Memory", f"{summary.peak_memory_bytes / 2**20:,.0f} MiB at most"),
        ("Run", summary.run_id),
    ]
    return [(name, value) for name, value in facts if value]
