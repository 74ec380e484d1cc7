"""Nights as a table: what ran, how it ended, what came of it."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

import tagger
from tagger.cli.main import cli
from tagger.core.errors import GateError, TaggerError
from tagger.reports.event_log import Journal
from tagger.reports.history import Night, read_history
from tests.helpers.keywords import keywords

KIND: dict[str, Any] = {"attribute": [{"name": "kind", "labels": ["shirt", "dress", "shoes"], "truth_column": "kind"}]}
NAMES = [f"{number:04d}.png" for number in range(8)]


@pytest.fixture
def tag(write_manifest, small_clip: Path, pictures: Path, tmp_path: Path):
    """One night of a catalogue, in a folder of its own."""
    manifest = write_manifest([*NAMES, "none.png"], kind=["shirt"] * 9)

    def run(night: str, config: dict[str, Any] = KIND, **options: Any) -> tagger.RunSummary:
        (tmp_path / "nights" / night).mkdir(parents=True, exist_ok=True)
        options = {"model": small_clip, "image_root": pictures, "workers": 0, "overwrite": True, **options}
        return tagger.run(manifest, config, **keywords(path=tmp_path / "nights" / night / "tagged.parquet", **options))

    return run


def show(folder: Path) -> list[str]:
    done = CliRunner().invoke(cli, ["history", str(folder)], catch_exceptions=False)
    assert done.exit_code == 0
    return done.output.splitlines()


def test_the_nights_are_a_table(tag, tmp_path: Path):
    nights = tmp_path / "nights"
    first = tag("2026-11-21")
    (nights / "current").symlink_to("2026-11-21")
    previous = nights / "current" / "tagged.parquet"
    both = {"attribute": [*KIND["attribute"], {"name": "sort", "labels": ["hat", "bag"]}], "gates": {"max_error_rate": 0.0}}
    with pytest.raises(GateError):
        tag("2026-11-22", both, previous=previous)
    with pytest.raises(TaggerError):
        tag("2026-11-23", previous=previous, model="./no-model")
    killed = Journal(nights / "2026-11-24" / "tagged.run", "4")  # no folder there: nothing is written
    killed.event("start", "nothing")
    killed.close()
    (nights / "2026-11-24" / "tagged.run").mkdir(parents=True)
    killed = Journal(nights / "2026-11-24" / "tagged.run", "4")
    killed.event("start", "killed")
    killed.close()
    lines = show(nights)
    accuracy = f"{first.evaluation.attributes['kind'].accuracy:.1%}"
    assert lines[0].split() == ["date", "night", "rows", "encoded", "errors", "accuracy", "changed", "duration", "exit"]
    cells = [line.split()[2:] for line in lines[1:]]  # after date and time
    assert cells[0][:6] == ["2026-11-21", "9", "8", "1", accuracy, "-"]
    assert cells[1][:6] == ["2026-11-22", "9", "0", "1", accuracy, "0.0%"]
    assert cells[2][:6] == ["2026-11-23", "9", "0", "-", "-", "-"]
    assert cells[3] == ["2026-11-24", "-", "-", "-", "-", "-", "-", "killed"]
    assert [line[-1] for line in cells[:3]] == ["0", "3", "69"]
    as_json = json.loads(CliRunner().invoke(cli, ["history", str(nights), "--json"]).output)
    assert [(night["night"], night["exit"]) for night in as_json] == [
        ("2026-11-21", 0),
        ("2026-11-22", 3),
        ("2026-11-23", 69),
        ("2026-11-24", "killed"),
    ]
    assert as_json[0]["accuracy"] == {"kind": first.evaluation.attributes["kind"].accuracy}
    assert as_json[1]["changed_labels"] == {"kind": 0.0}
    # One of these nights alone, and the folder through a link.
    assert [line.split()[2] for line in show(nights / "2026-11-21")[1:]] == ["tagged"]
    (tmp_path / "link").symlink_to("nights")
    assert len(show(tmp_path / "link")) == 5


@pytest.fixture
def night(tag, tmp_path: Path) -> Path:
    return Path(tag("night").output).with_name("tagged.run")


@pytest.mark.parametrize(
    "content",
    ["", "{", "[]", "3", "null", '{"run_id": 3}', '{"started": "yesterday"}', "\x00", '{"started": "2026-11-24"}', "[" * 9999],
)
def test_a_damaged_summary_is_a_row_that_says_so(night: Path, content: str):
    (night / "summary.json").write_text(content)
    (row,) = read_history(night.parent)
    assert (row.exit, row.rows) == (0, 9)
    assert row.note == "damaged summary"
    (night / "log.jsonl").unlink()
    assert show(night.parent)[1].endswith("unknown, damaged summary")


@pytest.mark.parametrize("key", ["started", "ended", "rows", "errors", "evaluation", "changed_labels"])
@pytest.mark.parametrize("value", [None, [], {"a": None}, "x", {"kind": 3}])
def test_a_summary_with_another_content_is_no_crash(night: Path, key: str, value: Any):
    summary = json.loads((night / "summary.json").read_text())
    (night / "summary.json").write_text(json.dumps({**summary, key: value}))
    (row,) = read_history(night.parent)
    assert isinstance(row, Night)
    right = (key == "evaluation" and not value) or (key == "errors" and value == {"kind": 3})
    assert (row.note == "damaged summary") != right


def test_a_summary_of_a_run_before_is_not_taken_for_this_one(tag, night: Path):
    with pytest.raises(TaggerError):
        tag("night", model="./no-model")
    (row,) = read_history(night.parent)
    assert (row.exit, row.rows, row.accuracy, row.note) == (69, 9, {}, None)


def test_a_run_is_going_on_or_was_killed(night: Path):
    log = Journal(night, "2")
    log.event("start", "a night")
    second = Journal(night, "3")  # on the same result: it ends at once
    second.event("start", "another")
    second.event("end", "no", exit_code=75)
    second.close()
    assert read_history(night.parent)[0].exit == "running"
    log.event("progress", "some rows")
    log.close()
    assert read_history(night.parent)[0].exit == "killed"


def test_a_run_before_a_second_one_ended_counts(night: Path):
    log, second = Journal(night, "2"), Journal(night, "3")
    log.event("start", "a night")
    second.event("start", "another")
    second.event("end", "no", exit_code=75)
    log.event("end", "done", exit_code=0, rows=7)
    second.close()
    log.close()
    (row,) = read_history(night.parent)
    assert (row.exit, row.rows, row.note) == (0, 7, "no summary of this run")


def test_nights_of_before_there_was_a_log_are_told_by_their_summary(night: Path):
    (night / "log.jsonl").unlink()
    (row,) = read_history(night.parent)
    assert (row.exit, row.rows, row.note) == (0, 9, None)
    (night / "summary.json").unlink()
    assert read_history(night.parent)[0].exit == "unknown"


def test_a_name_cannot_drive_the_terminal(night: Path):
    shutil.move(night.parent, night.parent.with_name("evil\x1b[31m\nnight"))
    (line,) = show(night.parents[1])[1:]
    assert "evil\\x1b[31m\\nnight" in line


def test_where_there_are_no_nights_the_table_is_empty(tmp_path: Path):
    assert len(show(tmp_path)) == 1
