"""A night whose truth was typed by people, in every form, from the run to its gates and its evaluation."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from jsonschema import Draft202012Validator

import tagger
from tagger.core.errors import GateError
from tests.catalog.test_truth import with_classes
from tests.helpers.keywords import keywords
from tests.reports.test_summary import SCHEMA

LABELS = ["shirt", "dress", "shoes"]
NAMES = [f"{number:04d}.png" for number in range(6)]
TYPED = ["Shirt", " DRESS", "Shoe\u017f", "dress\n", None, " "]
CLASSES = {"names": ["dress", "hat", "shirt"], "_type": "ClassLabel"}


def config(*columns: str, **gates: float) -> dict[str, Any]:
    return {"attribute": [{"name": f"a_{one}", "labels": LABELS, "truth_column": one} for one in columns], "gates": gates}


@pytest.fixture
def manifest(tmp_path: Path) -> Path:
    columns = {
        "image": pa.array(NAMES),
        "typed": pa.array(TYPED),
        "stored": pa.array([None if value is None else value.encode() for value in TYPED]),
        "classes": pa.array([2, 0, 0, 1, -1, None]),
        "other": pa.array(["shirt", "hat", "hat", "hat", None, ""]),
    }
    path = tmp_path / "manifest.parquet"
    pq.write_table(with_classes("classes", CLASSES, **columns), path)
    return path


def test_truth_in_every_form_is_evaluated_and_stays_as_it_is(manifest: Path, small_clip: Path, pictures: Path, caplog):
    caplog.set_level("INFO", logger="tagger")
    options = {"model": small_clip, "image_root": pictures, "workers": 0}
    summary = tagger.run(manifest, config("typed", "stored", "classes", min_truth_in_labels=1.0), **keywords(**options))
    assert summary.evaluation is not None
    found = {name: (one.labelled_rows, one.folded_rows, one.unknown_truth) for name, one in summary.evaluation.attributes.items()}
    assert found == {"a_typed": (4, 4, {}), "a_stored": (4, 4, {}), "a_classes": (3, 0, {"hat": 1})}
    assert [message for message in caplog.messages if "truth" in message] == [
        'a_typed: truth: 4 values match a label but for case or space: 1 "Shirt", 1 " DRESS", 1 "Shoe\u017f", 1 "dress\\n"',
        'a_stored: truth: 4 values match a label but for case or space: 1 "Shirt", 1 " DRESS", 1 "Shoe\u017f", 1 "dress\\n"',
        'a_classes: truth: 1 values fit no label: 1 "hat"',
    ]
    assert tagger.evaluate(summary.output).to_dict() == summary.evaluation.to_dict()
    before, after = pq.read_table(manifest), summary.read()
    assert after.select(before.column_names).equals(before)
    assert after.schema.metadata[b"huggingface"] == before.schema.metadata[b"huggingface"]
    assert "  rows whose truth value matches a label but for case or space: 4" in summary.evaluation.to_text()


def test_a_gate_fails_where_most_truth_fits_no_label(manifest: Path, small_clip: Path, pictures: Path):
    options = {"model": small_clip, "image_root": pictures, "workers": 0, "overwrite": True}
    with pytest.raises(GateError) as raised:
        tagger.run(manifest, config("other", min_accuracy=0.0, min_macro_f1=0.0, min_labelled_rows=1), **keywords(**options))
    left_out = "3 of 4 truth values fit no label and are left out; expected at least 50% to fit one (min_truth_in_labels)"
    assert [left_out in line for line in str(raised.value).splitlines()] == [True, True, False]
    summary = raised.value.summary
    Draft202012Validator(SCHEMA).validate(json.loads(summary.to_json()))
    assert [gate.passed for gate in summary.gates] == [False, False, True]
    lower = config("other", min_accuracy=0.0, min_truth_in_labels=0.25)
    assert tagger.run(manifest, lower, **keywords(**options)).published


def test_inspect_counts_what_was_matched_and_what_fits_nothing(manifest: Path, small_clip: Path, pictures: Path):
    found = tagger.inspect(manifest, config("typed", "other", min_macro_f1=0.5), model=small_clip, image_root=pictures)
    text = found.to_text()
    assert (
        '  rows whose value matches a label but for case or space: 4 (1 "Shirt", 1 " DRESS", 1 "Shoe\u017f", 1 "dress\\n")\n'
        in text
    )
    assert '  rows whose value is no label: 3 (3 "hat")\n' in text
    assert (
        'warning: attribute "a_other": 3 of 4 truth values fit no label: gates on accuracy and macro F1 will fail; see [gates] '
        "min_truth_in_labels" in text
    )
