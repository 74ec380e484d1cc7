"""What a report says of the nights before: label shares, confidences, errors, speed, changed labels, and what has drifted."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from tagger.evaluation.drift import LEVEL, SIZES, Drift, Shift
from tagger.reports.history import EarlierRun
from tagger.reports.summary import RunSummary

LABELS = 40  # of an attribute, whose shares are shown: those that have moved most

MEANING = {
    "labels": "label shares (population stability index)",
    "confidence": "confidence (largest difference of the distributions)",
    "errors": "error rows (difference of their shares)",
    "embeddings": "pictures (largest shift of an embedding's mean, in standard deviations)",
}


def since_section(summary: RunSummary | None, earlier: Sequence[EarlierRun], shown_rows: Mapping[int, Any]) -> dict[str, Any]:
    """Return the values of templates/report.html about earlier nights. shown_rows: those that may be shown, by number."""
    if summary is None:
        return {"missing": "There is no summary of this run.", "runs": [], "attributes": [], "shifts": []}
    drift = summary.drift
    names = [name for name in drift.labels if sum(map(sum, drift.labels[name].values()))]
    return {
        "missing": drift.missing,
        "previous": summary.previous,
        "rows": drift.rows,
        "errors": drift.errors,
        "runs": [_run(run) for run in earlier],
        "attributes": [_attribute(name, drift) for name in names],
        "changed": {
            name: {"rows": one.rows, "changed": one.changed, "examples": [row for row in one.examples if row.row in shown_rows]}
            for name, one in summary.changed_labels.items()
        },
        "shifts": [_shift(shift) for shift in drift.shifts],
        "level": LEVEL,
    }


def _run(run: EarlierRun) -> dict[str, Any]:
    speed = run.rows / run.seconds if run.rows and run.seconds else None
    return {
        "started": run.started,
        "rows": run.rows,
        "encoded": run.encoded_images,
        "seconds": run.seconds,
        "speed": speed,
        "exit": run.exit,
    }


def _attribute(name: str, drift: Drift) -> dict[str, Any]:
    """Return the shares of an attribute's labels before and now, those that have moved most first."""
    counts = drift.labels[name]
    before, now = (max(sum(one[night] for one in counts.values()), 1) for night in (0, 1))
    moved = {label: one[1] / now - one[0] / before for label, one in counts.items() if any(one)}
    rows = [
        {"label": label, "before": counts[label][0] / before, "now": counts[label][1] / now, "moved": moved[label]}
        for label in sorted(moved, key=lambda label: -abs(moved[label]))
    ]
    return {"name": name, "labels": rows[:LABELS], "count": len(rows), "plot": _plot(name, drift), "bins": _bins(name, drift)}


def _plot(name: str, drift: Drift) -> str | None:
    before, now = drift.confidences.get(name, ([], []))
    if not sum(before) or not sum(now):
        return None
    from tagger.reports.plots import draw_confidences  # matplotlib takes its time

    return draw_confidences(before, now, name)


def _bins(name: str, drift: Drift) -> list[tuple[float, float, int, int]]:
    """Return the low and the high end of each bin of confidence that has rows, and its rows before and now."""
    before, now = drift.confidences.get(name, ([], []))
    width = 1 / max(len(now), 1)
    pairs = enumerate(zip(before, now, strict=True))
    return [(place * width, (place + 1) * width, one, other) for place, (one, other) in pairs if one or other]


def _shift(shift: Shift) -> dict[str, Any]:
    verdict, kind = ("shifted", "warn") if shift.alarm else ("no shift", "good")
    if shift.note is not None:
        verdict, kind = "not tested", ""
    elif shift.significant and not shift.alarm:
        verdict, kind = "more than chance, but small", ""
    return {
        "figure": MEANING[shift.figure],
        "attribute": shift.attribute,
        "size": shift.size,
        "matters": SIZES[shift.figure],
        "before": shift.before,
        "now": shift.now,
        "p_value": shift.p_value,
        "note": shift.note or "",
        "verdict": verdict,
        "kind": kind,
    }
