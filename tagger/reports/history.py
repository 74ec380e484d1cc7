"""Read the nights below a folder from their run folders: which ran, how they ended, what came of them."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass, field, fields
from datetime import datetime
from pathlib import Path
from typing import Any

from tagger.core.tables import plain_table
from tagger.core.text import to_json
from tagger.reports.event_log import LOG, is_live

HEAD = ("date", "night", "rows", "encoded", "errors", "accuracy", "changed", "duration", "exit")


@dataclass(frozen=True, kw_only=True)
class Night:
    """The last run in one run folder; None stands for what is not known.

    started: ISO 8601. accuracy, changed_labels: attribute -> share. exit: the exit code, "running", "killed" or "unknown". note:
    what is wrong with the files that the run has left, or None.
    """

    started: str | None = None
    night: str
    run_folder: str
    rows: int | None = None
    encoded_images: int | None = None
    errors: int | None = None
    accuracy: Mapping[str, float] = field(default_factory=dict)
    changed_labels: Mapping[str, float] = field(default_factory=dict)
    seconds: float | None = None
    exit: int | str = "unknown"
    note: str | None = None


def read_history(folder: Path) -> list[Night]:
    """Return the night of every *.run folder in `folder` or one level below, oldest first; each once, whatever links to it."""
    found: dict[Path, Path] = {}
    paths = [path for pattern in ("*.run", "*/*.run") for path in folder.glob(pattern) if path.is_dir()]
    for path in sorted(paths, key=lambda path: (path.parent.is_symlink() or path.is_symlink(), path)):
        found.setdefault(path.resolve(), path)
    nights = [_read(path, path.stem if path.parent == folder else path.parent.name) for path in found.values()]
    return sorted(nights, key=lambda night: (night.started or "", night.night))


@dataclass(frozen=True, kw_only=True)
class EarlierRun:
    """A run that the log in a run folder tells of; None stands for what is not known. exit: the exit code."""

    started: str
    rows: int | None
    encoded_images: int | None
    seconds: float | None
    exit: int | None


def read_earlier_runs(folders: Iterable[Path], run_id: str, count: int) -> list[EarlierRun]:
    """Return the last runs that ended before this one started, by the logs in these run folders; the latest first."""
    starts: dict[str, str] = {}
    ends: dict[str, Mapping[str, Any]] = {}
    for folder in dict.fromkeys(folders):
        for line in _lines(folder / LOG)[0]:
            run = line.get("run_id")
            if isinstance(run, str) and line.get("event") == "start":
                starts[run] = str(line.get("time"))
            elif isinstance(run, str) and line.get("event") == "end":
                ends[run] = line
    until = starts.get(run_id, "9999")
    found = [(starts[run], end) for run, end in ends.items() if run in starts and str(end.get("time")) <= until and run != run_id]
    found.sort(key=lambda item: item[0], reverse=True)
    return [
        EarlierRun(
            started=started[:19],
            rows=_whole(end, "rows"),
            encoded_images=_whole(end, "encoded_images"),
            seconds=end["seconds"] if isinstance(end.get("seconds"), int | float) else None,
            exit=_whole(end, "exit_code"),
        )
        for started, end in found[:count]
    ]


def _whole(line: Mapping[str, Any], key: str) -> int | None:
    value = line.get(key)
    return value if isinstance(value, int) else None


def _read(folder: Path, night: str) -> Night:
    lines, live = _lines(folder / LOG)
    run_id = _last_run(lines, live)
    run = [line for line in lines if line.get("run_id") == run_id]
    start = next((line for line in run if line.get("event") == "start"), {})
    end = next((line for line in run if line.get("event") == "end"), None)
    known: dict[str, Any] = {"started": start.get("time"), "night": night, "run_folder": str(folder)}
    if end is not None:
        known |= {name: end.get(name) for name in ("rows", "encoded_images", "seconds")}
        known["exit"] = end.get("exit_code", "unknown")
    elif run:
        known["exit"] = "running" if live else "killed"
    summary = folder / "summary.json"
    try:
        figures = _figures(json.loads(summary.read_text(encoding="utf-8")))
    except FileNotFoundError:
        figures = {"run_id": None}
    except (OSError, ValueError, LookupError, TypeError, AttributeError, RecursionError):
        figures = {"run_id": None, "note": "damaged summary"}
    summarised = figures.pop("run_id")
    if not run or summarised == run_id or "note" in figures:
        known = {**figures, **{name: value for name, value in known.items() if value is not None}}
    elif known["exit"] in (0, 3):  # else a run before it has written what is there
        known["note"] = "no summary of this run"
    return Night(**known)


def _figures(summary: Mapping[str, Any]) -> dict[str, Any]:
    """Return the figures of a summary, and the run's id.

    Raises LookupError, TypeError, ValueError or AttributeError where it is no summary.
    """
    began, ended = datetime.fromisoformat(summary["started"]), datetime.fromisoformat(summary["ended"])
    return {
        "run_id": str(summary["run_id"]),
        "started": began.isoformat(timespec="seconds"),
        "rows": int(summary["rows"]),
        "encoded_images": int(summary["encoded_images"]),
        "errors": sum(summary["errors"].values()),
        "accuracy": {
            name: float(one["accuracy"]) for name, one in (summary["evaluation"] or {}).items() if one["accuracy"] is not None
        },
        "changed_labels": {name: one["changed"] / one["rows"] for name, one in summary["changed_labels"].items() if one["rows"]},
        "seconds": (ended - began).total_seconds(),
        "exit": summary["exit_code"],
    }


def _lines(log: Path) -> tuple[list[dict[str, Any]], bool]:
    """Return the whole lines of a log, and whether a run is writing it."""
    try:
        live = is_live(log)
        texts = log.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return [], False
    found = []
    for text in texts:
        with suppress(ValueError):
            found.append(json.loads(text))
    return [line for line in found if isinstance(line, dict)], live


def _last_run(lines: Iterable[Mapping[str, Any]], live: bool) -> str | None:
    """Return the id of the run that wrote last; of one that is still running if there is one.

    A second run on the same result ends at once, and has then written after the one that goes on.
    """
    last: dict[str | None, bool] = {}  # run -> whether it has ended; the run that wrote last comes last
    for line in lines:
        run = line.get("run_id")
        last[run] = last.pop(run, False) or line.get("event") == "end"
    going_on = [run for run, ended in last.items() if not ended]
    if live and going_on:
        return going_on[-1]
    return next(reversed(last), None)


def to_table(nights: Iterable[Night]) -> str:
    """Return the nights as a table for a terminal."""
    return plain_table(HEAD, map(_cells, nights), left=len(HEAD))


def nights_to_json(nights: Iterable[Night]) -> str:
    return to_json([asdict(night) for night in nights])


def _cells(night: Night) -> tuple[str, ...]:
    known = {one.name: getattr(night, one.name) for one in fields(night)}
    counts = ("-" if known[name] is None else str(known[name]) for name in ("rows", "encoded_images", "errors"))
    duration = "-"
    if night.seconds is not None:
        minutes, seconds = divmod(round(night.seconds), 60)
        duration = f"{minutes // 60}:{minutes % 60:02}:{seconds:02}"
    end = f"{night.exit}, {night.note}" if night.note else str(night.exit)
    started = (night.started or "-")[:16].replace("T", " ")
    return started, night.night, *counts, _shares(night.accuracy), _shares(night.changed_labels), duration, end


def _shares(shares: Mapping[str, float]) -> str:
    if len(shares) == 1:
        return f"{next(iter(shares.values())):.1%}"
    return ", ".join(f"{name} {share:.1%}" for name, share in shares.items()) or "-"
