"""A night that is not good enough: its results go aside, what was published stays."""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path
from typing import Any

import pytest

import tagger
from tagger.cli.main import main
from tagger.core.errors import ConfigError, GateError, ManifestError, UsageError
from tests.helpers.keywords import keywords

LABELS = ["shirt", "dress", "shoes"]
NAMES = [f"{number:04d}.png" for number in range(8)]


def config(id_column: str | None = None, **gates: float) -> dict[str, Any]:
    attribute = {"name": "kind", "labels": LABELS, "truth_column": "kind"}
    return {"attribute": [attribute], "gates": gates, "manifest": {"id_column": id_column}}


@pytest.fixture
def manifest(write_manifest, pictures: Path) -> Path:
    return write_manifest(NAMES, kind=["shirt", None] * 4, id=list(range(8)))


@pytest.fixture
def tag(small_clip: Path, pictures: Path):
    def run(manifest: Path, config: dict[str, Any], **options: Any) -> tagger.RunSummary:
        options = {"image_root": pictures, "workers": 0, "overwrite": True, **options}
        return tagger.run(manifest, config, **keywords(model=small_clip, **options))

    return run


def rejected(tag, manifest: Path, config: dict[str, Any], **options: Any) -> tagger.RunSummary:
    with pytest.raises(GateError) as caught:
        tag(manifest, config, **options)
    return caught.value.summary


def test_a_failed_gate_leaves_what_was_published_and_writes_the_results_aside(tag, manifest: Path, tmp_path: Path):
    good = tag(manifest, config())
    before = good.output.read_bytes()
    for labels in (LABELS, ["hat", "bag", "shirt"]):  # the second try replaces the first's
        summary = rejected(tag, manifest, config(min_labelled_rows=5), labels=labels)
        assert summary.output == tmp_path / "manifest.tagged.rejected.parquet"
        assert (summary.exit_code, summary.published) == (3, False)
        assert good.output.read_bytes() == before
        assert summary.read()["tag_status"].to_pylist() == ["tagged"] * 8
        assert set(summary.read()["kind_label"].to_pylist()) <= set(labels)
        stored = json.loads((tmp_path / "manifest.tagged.run" / "summary.json").read_text())
        assert [(gate["gate"], gate["found"], gate["passed"]) for gate in stored["gates"]] == [("min_labelled_rows", 4, False)]
    assert sorted(path.name for path in (tmp_path / "manifest.tagged.run").iterdir()) == [
        "embeddings.json",
        "lock",
        "lock.owner",
        "log.jsonl",
        "metrics.prom",
        "sketches.npy",
        "sketches.rejected.npy",
        "summary.json",
    ]
    assert tag(manifest, config(min_labelled_rows=4)).published
    assert not (tmp_path / "manifest.tagged.run" / "sketches.rejected.npy").exists()
    assert good.output.read_bytes() == before
    assert not summary.output.exists()


def test_results_in_place_go_aside_too(tag, manifest: Path):
    before = manifest.read_bytes()
    summary = rejected(tag, manifest, config(min_labelled_rows=100), in_place=True)
    assert manifest.read_bytes() == before
    assert summary.output == manifest.with_name("manifest.rejected.parquet")
    expected = summary.read()
    assert tag(manifest, config(), in_place=True).read().equals(expected)
    assert not summary.output.exists()


def test_a_manifest_is_not_where_rejected_results_go(tag, manifest: Path, tmp_path: Path):
    shutil.move(manifest, tmp_path / "out.rejected.parquet")
    with pytest.raises(UsageError, match="its results go to the manifest .*out.rejected.parquet if they are rejected"):
        tag(tmp_path / "out.rejected.parquet", config(), output=tmp_path / "out.parquet")
    shutil.move(tmp_path / "out.rejected.parquet", tmp_path / "a1.parquet")
    with pytest.raises(UsageError, match="would be read as input next time"):
        tag(Path(f"{tmp_path}/a*.parquet"), config(), output=tmp_path / "a.pq")


def test_a_person_reads_a_line_for_each_failed_gate(manifest: Path, small_clip, pictures, tmp_path: Path, monkeypatch, capsys):
    (tmp_path / "tagger.toml").write_text(
        '[[attribute]]\nname = "kind"\nlabels = ["shirt", "dress", "shoes"]\ntruth_column = "kind"\n'
        "[gates]\nmin_labelled_rows = 5\nmax_error_rate = 0.0\n"
    )
    (tmp_path / "images").mkdir()
    for name in NAMES[:7]:
        shutil.copy(pictures / name, tmp_path / "images")
    arguments = ["run", str(manifest), "--model", str(small_clip), "--image-root", "images", "--workers", "0"]
    monkeypatch.setattr(sys, "argv", ["tagger", *arguments])
    with pytest.raises(SystemExit) as ended:
        main()
    output, errors = capsys.readouterr()
    aside = tmp_path / "manifest.tagged.rejected.parquet"
    assert ended.value.code == 3
    assert errors.splitlines()[-3:] == [
        "tagger: gate min_labelled_rows, kind: expected at least 5, found 4 on 8 rows",
        "tagger: gate max_error_rate: expected at most 0%, found 12.5% on 8 rows",
        f"tagger: the results are written to {aside}, not to {tmp_path / 'manifest.tagged.parquet'}",
    ]
    assert output.splitlines()[-1] == str(aside)
    assert "failed: gate max_error_rate: expected at most 0%, found 12.5% on 8 rows" in output


def test_max_errors_beats_the_settings_error_rate(tag, manifest: Path, tmp_path: Path):
    (tmp_path / "empty").mkdir()
    options = {"image_root": tmp_path / "empty", "max_errors": "100%"}
    summary = tag(manifest, config(max_error_rate=0.0), **options)
    assert [(gate.gate, gate.wanted, gate.passed) for gate in summary.gates] == [("max_errors", 8, True)]


def test_a_gate_on_truth_needs_a_truth_column(write_manifest, tag):
    without = {"attribute": [{"name": "kind", "labels": LABELS}], "gates": {"min_macro_f1": 0.5}}
    with pytest.raises(ConfigError, match="gates.min_macro_f1: expected an attribute with a truth_column, found none"):
        tag(write_manifest(NAMES), without)


@pytest.mark.parametrize("id_column", [None, "id"])
def test_changed_labels_are_counted_against_the_result_that_stands_there(
    tag, manifest: Path, write_manifest, id_column: str | None
):
    first = tag(manifest, config(id_column, max_changed_labels=0.0))
    assert (first.previous, first.changed_labels) == (None, {})
    assert [gate.note for gate in first.gates] == ["there is no earlier result to compare with"]
    # Two rows are gone, one is new, one shows another picture; all are in another order.
    before = dict(zip(NAMES, first.read()["kind_label"].to_pylist(), strict=True))
    other = next(name for name in NAMES[:6] if before[name] != before[NAMES[0]])
    rows = [(NAMES[5], 5), ("0100.png", 100), *((NAMES[number], number) for number in (4, 3, 2, 1))]
    rows.append((other, 0) if id_column else (NAMES[0], 0))
    again = write_manifest([name for name, _ in rows], kind=[None] * 6 + ["shirt"], id=[number for _, number in rows])
    expected = {"rows": 6, "changed": 1 if id_column else 0}
    if id_column:
        second = rejected(tag, again, config(id_column, max_changed_labels=0.1))
        assert "kind 1 of 6 rows" in second.to_text()
    else:
        second = tag(again, config(id_column, max_changed_labels=0.1))
    (found,) = json.loads(second.to_json())["changed_labels"].values()
    examples = [(one["row"], one["before"], one["now"]) for one in found.pop("examples")]
    assert found == expected
    assert examples == ([(6, before[NAMES[0]], before[other])] if id_column else [])
    assert second.previous == str(first.output)


def test_the_result_of_another_night_may_be_named(tag, manifest: Path, tmp_path: Path):
    for night in ("one", "two"):
        (tmp_path / night).mkdir()
    first = tag(manifest, config(), output=tmp_path / "one" / "tagged.parquet")
    (tmp_path / "current").symlink_to("one")
    options = {"output": tmp_path / "two" / "tagged.parquet", "previous": tmp_path / "current" / "tagged.parquet"}
    second = tag(manifest, config(), **options)
    assert (second.previous, second.changed_labels["kind"].rows) == (str(options["previous"]), 8)
    assert second.output.read_bytes() == first.output.read_bytes()


@pytest.mark.parametrize(("content", "found"), [(None, "no such file|found none"), (b"torn", "expected a readable Parquet file")])
def test_an_earlier_result_that_is_named_must_be_one(tag, manifest: Path, tmp_path: Path, content: bytes | None, found: str):
    previous = tmp_path / "previous.parquet"
    if content:
        previous.write_bytes(content)
    with pytest.raises(ManifestError, match=found):
        tag(manifest, {**config(), "model": {"name": "./no-model-is-loaded"}}, previous=previous)
    with pytest.raises(ManifestError, match="expected results of tagger"):
        tag(manifest, config(), previous=manifest)


def test_what_is_no_result_of_ours_is_replaced_without_comparing(tag, manifest: Path, tmp_path: Path):
    (tmp_path / "manifest.tagged.parquet").write_bytes(manifest.read_bytes())
    summary = tag(manifest, config(max_changed_labels=0.0))
    assert (summary.previous, summary.published) == (None, True)


def test_an_earlier_result_that_cannot_be_read_fails_the_gate_on_changed_labels(tag, manifest: Path, tmp_path: Path, caplog):
    output = tmp_path / "manifest.tagged.parquet"
    tag(manifest, config())
    damaged = output.read_bytes()[:-9]
    output.write_bytes(damaged)
    [gate] = rejected(tag, manifest, config(max_changed_labels=0.5)).gates
    assert (gate.passed, gate.found, gate.note.startswith(f"{output}: expected a readable Parquet file, found")) == (
        False,
        None,
        True,
    )
    assert output.read_bytes() == damaged
    caplog.clear()
    summary = tag(manifest, config())  # nobody asked for a comparison
    assert (summary.published, summary.previous, summary.changed_labels) == (True, str(output), {})
    assert [
        message
        for message in caplog.messages
        if message.startswith(f"changed labels are not counted, nor drift measured: {output}: expected")
    ]


def test_embedded_images_without_an_id_are_not_compared_and_that_is_said(tag, write_manifest, pictures: Path, caplog):
    caplog.set_level("INFO", "tagger")
    manifest = write_manifest([(pictures / name).read_bytes() for name in NAMES], kind=["shirt"] * 8, id=list(range(8)))
    tag(manifest, config())
    said = "embedded images have no name to match rows by; set [manifest] id_column"
    summary = tag(manifest, config(max_changed_labels=0.0))
    assert ([gate.note for gate in summary.gates], summary.changed_labels) == ([said], {})
    assert f"changed labels are not counted: {said}" in caplog.messages
    assert tag(manifest, config("id")).changed_labels["kind"].rows == 8
