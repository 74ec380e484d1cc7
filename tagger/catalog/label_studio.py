"""Label Studio: tasks with the model's answers as predictions go out, its JSON and JSON-MIN exports come back.

The formats: https://labelstud.io/guide/predictions (score, and a model_version that is the same in all tasks, so that the scores
are shown and can be sorted by), https://labelstud.io/guide/export (JSON has each annotation whole, JSON-MIN its choices beside
the task's data). The data's keys are review_table.COLUMNS, but `id`, which is Label Studio's own, is `item_id`.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any
from xml.sax.saxutils import quoteattr

from tagger.catalog.corrections import NOTES, Row, read_whole
from tagger.catalog.review_table import COLUMNS, Review, to_row
from tagger.core.errors import ManifestError
from tagger.core.text import first_line, printable

ASKED = ("correction", "note")  # the names of the two controls
HOTKEYS = "123456789"
_IMAGE, _ID = "image", "item_id"
_DATA = tuple(name for name in COLUMNS if name not in ("id", "image", *ASKED, "by", "at"))


def to_tasks(review: Review, pictures: Sequence[str]) -> bytes:
    """Return the tasks to import, as JSON. pictures: `data:` URIs of the review's items."""
    tasks = []
    for item, picture in zip(review.items, pictures, strict=True):
        row = to_row(review, item)
        label, score = item.top[0]
        answer = {"from_name": ASKED[0], "to_name": _IMAGE, "type": "choices", "value": {"choices": [printable(label)]}}
        data = {_IMAGE: picture, "image_name": row["image"], _ID: row["id"], **{name: row[name] for name in _DATA}}
        tasks.append({"data": data, "predictions": [{"model_version": review.model, "score": score, "result": [answer]}]})
    return json.dumps(tasks, ensure_ascii=False, indent=1).encode()


def to_config(review: Review) -> str:
    """Return the labelling interface of the project that the tasks are imported into, as XML."""
    choices = "\n".join(
        f"    <Choice value={quoteattr(printable(label))}{_hotkey(number)}/>" for number, label in enumerate(review.labels)
    )
    notes = "\n".join(f"    <Choice value={quoteattr(note)}/>" for note in NOTES)
    many = len(review.labels) > len(HOTKEYS)
    search = f'  <Filter name="search" toName="{ASKED[0]}" minlength="0" placeholder="Search a label"/>\n' if many else ""
    return (
        f'<View>\n  <Image name="{_IMAGE}" value="${_IMAGE}"/>\n  <Text name="asked" value="$reason"/>\n{search}'
        f'  <Choices name="{ASKED[0]}" toName="{_IMAGE}" choice="single" showInline="true">\n{choices}\n  </Choices>\n'
        f'  <Choices name="{ASKED[1]}" toName="{_IMAGE}" choice="single" showInline="true">\n{notes}\n  </Choices>\n</View>\n'
    )


def _hotkey(number: int) -> str:
    return f' hotkey="{HOTKEYS[number]}"' if number < len(HOTKEYS) else ""


def read_export(file: Path, labels: Sequence[str]) -> list[Row]:
    """Read a JSON or JSON-MIN export as rows of review_table.COLUMNS; annotations that were skipped are left out.

    labels: as they are, of which the interface showed printable forms. Raises ManifestError.
    """
    try:
        tasks = json.loads(read_whole(file))
        if not isinstance(tasks, list) or not all(isinstance(task, dict) for task in tasks):
            raise ValueError("no list of tasks")
        rows = [row for task in tasks for row in _rows(task)]
    except (ValueError, RecursionError, TypeError, AttributeError, LookupError) as error:
        raise ManifestError(
            f"{file}: expected an export of Label Studio, JSON or JSON-MIN, found: {first_line(error)}; export it again"
        ) from error
    shown = {printable(label): label for label in labels}
    for row in rows:
        row["correction"] = shown.get(row["correction"], row["correction"])
    return list(rows)


def _rows(task: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """Yield what each annotation of a task says."""
    if "annotations" not in task:
        yield _row(task, {name: _single(task.get(name)) for name in ASKED}, task.get("annotator"), task.get("updated_at"))
        return
    for one in task["annotations"]:
        if one.get("was_cancelled"):
            continue
        chosen = {item["from_name"]: _single(item["value"].get("choices")) for item in one["result"] if item["type"] == "choices"}
        yield _row(task["data"], chosen, one.get("completed_by"), one.get("updated_at") or one.get("created_at"))


def _row(data: Mapping[str, Any], chosen: Mapping[str, str | None], by: object, at: object) -> dict[str, Any]:
    if isinstance(by, Mapping):
        by = by.get("email") or by.get("id")
    row = {name: data[name] for name in _DATA if name in data}
    answers = {name: chosen.get(name) for name in ASKED}
    return {**row, **answers, "id": data.get(_ID), "by": None if by is None else str(by), "at": at}


def _single(chosen: object) -> str | None:
    """Return the one choice of a control, None without. Raises ValueError for several, which a person cannot have meant."""
    if isinstance(chosen, Mapping):
        chosen = chosen["choices"]
    if isinstance(chosen, list):
        if len(chosen) > 1:
            raise ValueError(f"{len(chosen)} choices where one can be right")
        chosen = chosen[0] if chosen else None
        return _single(chosen) if isinstance(chosen, Mapping) else None if chosen is None else str(chosen)
    return None if chosen is None else str(chosen)
