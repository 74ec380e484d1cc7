"""Label Studio: tasks as its documentation wants them, exports as it writes them."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest

from tagger.catalog.corrections import collect
from tagger.catalog.label_studio import read_export, to_config, to_tasks
from tagger.core.errors import ManifestError
from tests.catalog.test_corrections import LABELS, RESULT, item, review

PICTURE = "data:image/webp;base64,AAAA"
ODD = ('<Choice value="x"/>', "a\x1b[31mb", "tab\tand\nline", "&amp;", "שלום", "x" * 3000)


def tasks(*numbers: int) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads(to_tasks(review(*map(item, numbers)), [PICTURE] * len(numbers)))
    return found


def annotation(choices: dict[str, str], **more: Any) -> dict[str, Any]:
    """An annotation as the JSON export has it (https://labelstud.io/guide/task_format)."""
    result = [
        {"id": "Dx_aB9", "type": "choices", "value": {"choices": [value]}, "to_name": "image", "from_name": name}
        for name, value in choices.items()
    ]
    return {
        "id": 1001,
        "completed_by": 10,
        "result": result,
        "was_cancelled": False,
        "ground_truth": False,
        "created_at": "2026-01-31T11:00:00.728353Z",
        "updated_at": "2026-01-31T12:00:00.728378Z",
        "lead_time": 4.288,
        **more,
    }


def read(tmp_path: Path, content: Any, labels: tuple[str, ...] = LABELS) -> list[tuple[Any, ...]]:
    file = tmp_path / "project.json"
    file.write_text(json.dumps(content), encoding="utf-8")
    found = collect(read_export(file, labels), {"kind": labels}, "file").by_key
    return [(key, one.truth, one.note, one.by, one.at and one.at.isoformat()) for key, one in found.items()]


def test_a_task_has_the_picture_what_is_asked_and_a_prediction_with_a_score():
    first, second = tasks(1, 2)
    assert first["data"]["image"] == PICTURE
    assert {name: first["data"][name] for name in ("item_id", "image_name", "attribute", "id_column", "result")} == {
        "item_id": "-1",
        "image_name": "https://cdn.example/1.jpg?…",
        "attribute": "kind",
        "id_column": "sku",
        "result": RESULT,
    }
    assert first["predictions"] == [
        {
            "model_version": "clip 12345678",
            "score": 0.5,
            "result": [{"from_name": "correction", "to_name": "image", "type": "choices", "value": {"choices": ["dress"]}}],
        }
    ]
    assert second["predictions"][0]["model_version"] == first["predictions"][0]["model_version"]


def test_the_interface_has_the_names_that_the_predictions_have():
    view = ElementTree.fromstring(to_config(review(item(1))))
    controls = {one.get("name"): one for one in view.iter("Choices")}
    assert [one.get("value") for one in controls["correction"]] == list(LABELS)
    assert [one.get("value") for one in controls["note"]] == ["not-in-list", "bad-picture"]
    assert {one.get("toName") for one in controls.values()} == {"image"}
    assert view.find("Image").attrib == {"name": "image", "value": "$image"}


def test_a_json_export_comes_back(tmp_path: Path):
    exported = [{"id": n, **task, "annotations": []} for n, task in enumerate(tasks(1, 2, 3, 4), 1)]
    exported[0]["annotations"] = [annotation({"correction": "shirt"})]
    exported[1]["annotations"] = [annotation({"note": "bad-picture"}, completed_by={"id": 3, "email": "ann@example.com"})]
    exported[2]["annotations"] = [annotation({"correction": "dress"}, was_cancelled=True)]
    exported[3]["annotations"] = [annotation({})]  # submitted without an answer
    assert read(tmp_path, exported) == [
        ("-1", "shirt", None, "10", "2026-01-31T12:00:00.728378+00:00"),
        ("-2", None, "bad-picture", "ann@example.com", "2026-01-31T12:00:00.728378+00:00"),
    ]


def test_a_json_min_export_comes_back(tmp_path: Path):
    more = {
        "annotator": 10,
        "annotation_id": 1,
        "created_at": "2026-01-31T11:00:00Z",
        "updated_at": "2026-01-31T12:00:00Z",
        "lead_time": 4.2,
    }
    one, two, three = (task["data"] for task in tasks(1, 2, 3))
    exported = [
        {**one, "id": 1, "correction": "Café-Bar", **more},
        {**two, "id": 2, "note": "not-in-list", **more},
        {**three, "id": 3, **more},
    ]
    assert read(tmp_path, exported) == [
        ("-1", "Café-Bar", None, "10", "2026-01-31T12:00:00+00:00"),
        ("-2", None, "not-in-list", "10", "2026-01-31T12:00:00+00:00"),
    ]


def test_labels_that_xml_cannot_hold_come_back(tmp_path: Path):
    asked = review(item(1))
    values = [one.get("value") for one in ElementTree.fromstring(to_config(replace(asked, labels=ODD))).iter("Choice")]
    for label, shown in zip(ODD, values, strict=False):
        [task] = tasks(1)
        assert read(tmp_path, [{**task, "annotations": [annotation({"correction": shown})]}], ODD)[0][1] == label


def test_two_people_who_differ_are_named(tmp_path: Path):
    [task] = tasks(1)
    both = [annotation({"correction": "dress"}), annotation({"correction": "shirt"}, completed_by=11)]
    with pytest.raises(ManifestError, match=r"rows with different ones: -1 \(dress, shirt\)"):
        read(tmp_path, [{**task, "annotations": both}])


NO_EXPORTS = [
    *({}, [1], [[]], "x", [{"annotations": 3}], [{"annotations": [{}]}]),
    [{"annotations": [{"result": [{"type": "choices"}]}]}],
]


@pytest.mark.parametrize("content", NO_EXPORTS)
def test_what_is_no_export_is_refused(tmp_path: Path, content: Any):
    with pytest.raises(ManifestError, match="project.json: expected an export of Label Studio, JSON or JSON-MIN, found: "):
        read(tmp_path, content)


def test_several_choices_where_one_can_be_right_are_refused(tmp_path: Path):
    [task] = tasks(1)
    both = annotation({"correction": "dress"})
    both["result"][0]["value"]["choices"] = ["dress", "shirt"]
    with pytest.raises(ManifestError, match="2 choices where one can be right"):
        read(tmp_path, [{**task, "annotations": [both]}])


@pytest.mark.parametrize("text", ["", "[", '[{"annotations": [', "[" * 100_000])
def test_json_that_is_cut_off_or_too_deep_is_refused(tmp_path: Path, text: str):
    (tmp_path / "cut.json").write_text(text)
    with pytest.raises(ManifestError, match="expected an export of Label Studio"):
        read_export(tmp_path / "cut.json", LABELS)
