"""`tagger report` and the report of a run: built, built again, left out, and never in the way of the results."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from importlib.resources import files
from pathlib import Path

import pytest
from click.testing import CliRunner
from jsonschema import Draft202012Validator

import tagger
from tagger.cli.report import report as command
from tagger.core import shutdown
from tagger.core.errors import ConfigError, GateError, ManifestError, StoppedError
from tagger.workflows import report as workflow
from tagger.workflows.report import report
from tests.conftest import WriteManifest
from tests.helpers.keywords import keywords
from tests.helpers.results import write_result

KIND = {"name": "kind", "labels": ["shirt", "dress", "shoes"], "truth_column": "kind"}
NAMES = [f"{number:04d}.png" for number in range(12)]
WRITTEN = {"report.html", "confusion-kind.png", "examples-kind.png"}


@pytest.fixture
def manifest(write_manifest: WriteManifest) -> Path:
    """Twelve pictures, the last row's is missing."""
    return write_manifest([*NAMES, "gone.png"], kind=["shirt", "dress", "shoes"] * 4 + ["shirt"])


def run(manifest: Path, model: Path, pictures: Path, **options):
    settings = {"attribute": [KIND], "manifest": {"image_root": str(pictures)}, **options.pop("settings", {})}
    return tagger.run(manifest, settings, **keywords(model=model, workers=0, cache=False, **{"report": True, **options}))


def images_in(page: str) -> int:
    return page.count('<img src="data:image/webp;base64,')


def test_a_run_leaves_a_report_which_can_be_built_again(manifest, small_clip, pictures, tmp_path, monkeypatch):
    run(manifest, small_clip, pictures)
    folder = tmp_path / "manifest.tagged.run"
    assert {path.name for path in folder.iterdir()} >= WRITTEN
    first = (folder / "report.html").read_bytes()
    assert b"missing" in first
    # From elsewhere, by the result or by its run folder: the same bytes.
    monkeypatch.chdir("/")
    for name in (tmp_path / "manifest.tagged.parquet", folder):
        (folder / "report.html").unlink()
        assert report(name, workers=0) == f"{folder}/report.html"
        assert (folder / "report.html").read_bytes() == first
    (tmp_path / "elsewhere").mkdir()
    assert report(folder, output=tmp_path / "elsewhere" / "page.html", workers=0) == str(tmp_path / "elsewhere" / "page.html")
    assert (tmp_path / "elsewhere" / "page.html").read_bytes() == first
    assert {path.name for path in (tmp_path / "elsewhere").iterdir()} == WRITTEN - {"report.html"} | {"page.html"}


@pytest.mark.parametrize("compared", [8, 13])
def test_it_says_among_how_many_rows_pictures_were_compared(manifest, small_clip, pictures, tmp_path, monkeypatch, compared):
    monkeypatch.setattr(workflow, "COMPARED", compared)
    monkeypatch.setattr(workflow, "_repeated", lambda *_: [(2, [0, 1])])
    run(manifest, small_clip, pictures)
    page = (tmp_path / "manifest.tagged.run" / "report.html").read_text()
    assert ("Among the first 8 rows." in page) == (compared == 8)


def test_a_second_night_says_what_has_changed(manifest, small_clip, pictures, tmp_path):
    run(manifest, small_clip, pictures, settings={"attribute": [{**KIND, "templates": ["{label}"]}]})
    other = {**KIND, "labels": [{"name": "shirt", "prompts": ["shoes"]}, "dress", {"name": "shoes", "prompts": ["shirt"]}]}
    summary = run(manifest, small_clip, pictures, overwrite=True, settings={"attribute": [other]})
    changed = summary.changed_labels["kind"].changed
    assert changed > 4
    page = (tmp_path / "manifest.tagged.run" / "report.html").read_text()
    since = page[page.index('id="since"') : page.index('id="drift"')]
    assert f"{changed} of 12 rows that have a label on both nights" in since
    assert images_in(since) == changed
    assert since.count("→ <bdi>shoes</bdi>") + since.count("→ <bdi>shirt</bdi>") == changed
    assert "13 rows then, 13 now; 1 errors then, 1 now" in since
    runs = re.findall(r"<tr><th scope=\"row\"><bdi>([\d :-]+)</bdi></th><td class=\"number\">(\d+)</td>", since)
    assert [rows for _, rows in runs] == ["13"]
    drift = page[page.index('id="drift"') : page.index('id="gallery"')]
    assert "label shares (population stability index)" in drift
    assert drift.count("<tr>") == 1 + len(summary.drift.shifts)


def test_no_report_leaves_it_out(manifest, small_clip, pictures, tmp_path):
    run(manifest, small_clip, pictures, report=False)
    assert {path.name for path in (tmp_path / "manifest.tagged.run").iterdir()} & WRITTEN == set()


def test_a_rejected_result_has_a_report_that_says_so(manifest, small_clip, pictures, tmp_path):
    with pytest.raises(GateError):
        run(manifest, small_clip, pictures, settings={"gates": {"max_error_rate": 0.01}})
    page = (tmp_path / "manifest.tagged.run" / "report.html").read_text()
    assert "held back" in page
    assert "1 of 1 gates failed" in page
    assert "at most 1%" in page
    assert report(tmp_path / "manifest.tagged.rejected.parquet", workers=0)
    assert (tmp_path / "manifest.tagged.run" / "report.html").read_text() == page


def test_what_a_calibration_promises_is_said(tmp_path):
    result = write_result(tmp_path / "r.parquet", 80, {"kind": KIND["labels"]}, ["gone.png"], error_share=0)
    summary = tmp_path / "r.run" / "summary.json"
    precision = {"target": 0.95, "confidence": 0.9, "per_label": False, "rows": 300}
    stored = {**json.loads(summary.read_text()), "guarantees": {"kind": {"precision": precision}}}
    summary.write_text(json.dumps(stored))
    Draft202012Validator(json.loads(files("tagger.reports").joinpath("summary.schema.json").read_text())).validate(stored)
    page = Path(report(result, workers=0)).read_text()
    said = "Promised: of the rows that need no review 95.0 % or more are right, with confidence 90 %, by 300 labelled rows."
    assert said in page
    assert "promised at most" in page  # in the risk-coverage plot


def test_images_that_have_gone_are_placeholders_with_the_reason(tmp_path, pictures):
    images = [*NAMES[:3], "gone.png"]
    result = write_result(tmp_path / "r.parquet", 8, {"kind": KIND["labels"]}, images, image_root=pictures, error_share=0)
    page = Path(report(result, workers=0)).read_text()
    assert images_in(page) > 0
    assert re.search("no picture: <bdi[^>]*>missing: no file gone.png", page)
    nowhere = Path(report(result, workers=0, image_root=tmp_path)).read_text()
    assert images_in(nowhere) == 0
    assert re.search("no picture: <bdi[^>]*>missing: no file 0000.png", nowhere)


@pytest.mark.parametrize("form", ["bytes", "struct"])
def test_images_in_the_rows_are_shown_and_their_bytes_are_not(tmp_path, pictures, form):
    stored = [(pictures / name).read_bytes() for name in NAMES]
    images = stored if form == "bytes" else [{"bytes": data, "path": name} for data, name in zip(stored, NAMES, strict=True)]
    result = write_result(tmp_path / "r.parquet", 9000, {"kind": KIND["labels"]}, images)
    page = Path(report(result, workers=0)).read_text()
    assert images_in(page) > 50
    # Random rows come from one of the three row groups, so that the images of the others need not be read.
    shown = {int(number) for number in re.findall(r'Picture of row (\d+)"', page[page.index("random rows of each label") :])}
    assert len({number // 4096 for number in shown}) == 1


def test_remote_images_are_fetched_only_where_the_run_was_allowed_to(tmp_path):
    images = ["https://cdn.example.com/1.jpg", "s3://bucket/2.jpg"]
    result = write_result(tmp_path / "r.parquet", 8, {"kind": KIND["labels"]}, images, error_share=0)
    page = Path(report(result, workers=0)).read_text()
    assert images_in(page) == 0
    assert len(re.findall("no picture: <bdi[^>]*>forbidden-path: ", page)) > 4


def test_a_result_without_its_summary_has_a_report_all_the_same(tmp_path, pictures, caplog):
    result = write_result(tmp_path / "r.parquet", 60, {"kind": KIND["labels"]}, NAMES, summary=False)
    page = Path(report(result, workers=0, image_root=pictures)).read_text()
    assert "r.run/summary.json: expected the summary of a run, found: No such file" in caplog.text
    assert images_in(page) > 0
    for text in ("{", "[]", '{"schema_version": 1}', '{"schema_version": 3}'):
        (tmp_path / "r.run" / "summary.json").write_text(text)
        caplog.clear()
        assert Path(report(result, workers=0, image_root=pictures)).read_text() == page
        assert "going on with the result alone" in caplog.text


def test_the_summary_of_another_result_is_not_taken(manifest, small_clip, pictures, tmp_path, caplog):
    run(manifest, small_clip, pictures)
    with pytest.raises(GateError):
        run(manifest, small_clip, pictures, overwrite=True, settings={"gates": {"max_error_rate": 0.01}})
    report(tmp_path / "manifest.tagged.parquet", workers=0)
    assert "is about" in caplog.text
    # Of two results that share a run folder, the folder means the later.
    assert "held back" in Path(report(tmp_path / "manifest.tagged.run", workers=0)).read_text()


def test_a_report_that_fails_costs_a_warning_and_nothing_else(manifest, small_clip, pictures, tmp_path, caplog):
    (tmp_path / "manifest.tagged.run" / "report.html").mkdir(parents=True)  # where a file is to be
    summary = run(manifest, small_clip, pictures)
    assert summary.exit_code == 0
    assert (tmp_path / "manifest.tagged.parquet").exists()
    assert "manifest.tagged.run/report.html: expected to write it, found: " in caplog.text
    assert "the results are complete; `tagger report` builds it again" in caplog.text
    assert '"exit_code": 0' in (tmp_path / "manifest.tagged.run" / "log.jsonl").read_text().splitlines()[-1]
    with pytest.raises(StoppedError, match="expected to write the report, found: Is a directory"):
        report(tmp_path / "manifest.tagged.parquet", workers=0)


def test_a_stop_that_comes_after_the_results_leaves_the_report_out(manifest, small_clip, pictures, tmp_path, caplog, monkeypatch):
    monkeypatch.setattr(shutdown, "late", True)
    assert run(manifest, small_clip, pictures).published
    assert not (tmp_path / "manifest.tagged.run" / "report.html").exists()
    assert "found: a stop was asked for; the results are complete" in caplog.text


def test_what_is_no_result_is_one_line(tmp_path, manifest):
    with pytest.raises(ManifestError, match="expected results of tagger, found a Parquet file without them"):
        report(manifest)
    with pytest.raises(ManifestError, match="expected a result, or the .run folder beside one, found neither; name the result"):
        report(tmp_path)


def test_the_command_prints_where_the_page_is(tmp_path, pictures):
    result = write_result(tmp_path / "r.parquet", 9, {"kind": KIND["labels"]}, NAMES, image_root=pictures)
    done = CliRunner().invoke(command, [str(result), "--workers", "0", "--output", str(tmp_path / "page.html")])
    assert done.exit_code == 0, done.output
    assert done.stdout == f"{tmp_path}/page.html\n"


def test_slices_that_are_no_columns_are_refused_before_any_work(manifest, small_clip, pictures):
    with pytest.raises(ConfigError, match="report.slices: expected columns of .*, found no brand among"):
        run(manifest, small_clip, pictures, settings={"report": {"slices": ["brand"]}})


def test_a_home_that_cannot_be_written_is_not_remarked_on(tmp_path):
    result = write_result(tmp_path / "r.parquet", 8, {"kind": KIND["labels"]}, ["gone.png"])
    home = dict.fromkeys(("HOME", "XDG_CACHE_HOME", "XDG_CONFIG_HOME"), "/proc/nowhere")
    command = [sys.executable, "-m", "tagger", "report", str(result), "--workers", "0"]
    done = subprocess.run(command, env={**os.environ, **home}, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
