"""What a run leaves for a scheduler, however it ended: log.jsonl and metrics.prom."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families

import tagger
from tagger.core import shutdown
from tagger.core.errors import GateError, StoppedError, TaggerError
from tagger.reports import event_log as journal
from tagger.reports.event_log import Journal, is_live
from tagger.reports.run_record import recorded
from tests.helpers.keywords import keywords

KIND = {"attribute": [{"name": "kind", "labels": ["shirt", "dress", "shoes"], "truth_column": "kind"}]}
NAMES = [f"{number:04d}.png" for number in range(8)]


@pytest.fixture
def manifest(write_manifest) -> Path:
    return write_manifest(NAMES, kind=["shirt", None] * 4)


@pytest.fixture
def tag(small_clip: Path, pictures: Path):
    def run(manifest: Path | str, config: Any = KIND, **options: Any) -> tagger.RunSummary:
        options = {"model": small_clip, "image_root": pictures, "workers": 0, "overwrite": True, **options}
        return tagger.run(manifest, config, **keywords(**options))

    return run


def lines(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]


def metrics(folder: Path) -> dict[str, float]:
    """name, and the value of its label -> value, as Prometheus reads them."""
    found = {}
    for family in text_string_to_metric_families((folder / "metrics.prom").read_text()):
        assert family.type == "gauge"
        assert family.documentation
        for sample in family.samples:
            found[" ".join([sample.name.removeprefix("tagger_"), *sample.labels.values()])] = sample.value
    return found


def test_a_run_writes_its_start_what_it_says_and_its_end(tag, manifest: Path, caplog):
    caplog.set_level("INFO", "tagger")
    folder = manifest.with_name("manifest.tagged.run")
    first = tag(manifest, {})
    second = tag(manifest, KIND)
    start, said, end, *more = lines(folder)
    assert start.keys() == {"time", "run_id", "level", "message", "event", "version", "manifest", "output"}
    assert (start["event"], start["version"], start["manifest"]) == ("start", tagger.__version__, str(manifest))
    assert start["output"] == str(first.output)
    assert said.keys() == {"time", "run_id", "level", "message"}
    assert (said["level"], said["message"].split(":")[0]) == ("INFO", "labels")
    expected = {"event": "end", "exit_code": 0, "rows": 8, "encoded_images": 8, "published": True, "level": "INFO"}
    assert expected.items() <= end.items()
    assert 0 < end["seconds"] < 60
    assert {line["run_id"] for line in (start, said, end)} == {first.run_id}
    assert {line["run_id"] for line in more} == {second.run_id}
    assert [line["event"] for line in more] == ["start", "end"]
    times = [line["time"] for line in lines(folder)]
    assert times == sorted(times)


def test_the_end_says_what_the_run_has_noted_until_then(tmp_path: Path):
    for noted in ({}, {"rows": 8, "encoded_images": 3, "published": True}):
        with suppress(StoppedError), recorded("m.parquet", tmp_path / "out.parquet", None) as record:
            vars(record).update(noted)
            raise StoppedError("the disk is full")
        expected = {"event": "end", "exit_code": 75, "rows": None, "encoded_images": None, "published": False, **noted}
        assert expected.items() <= lines(tmp_path / "out.run")[-1].items()
        assert "rows tagged" not in metrics(tmp_path / "out.run")


def test_a_rejected_night_says_so_and_is_no_success(tag, manifest: Path):
    folder = manifest.with_name("manifest.tagged.run")
    tag(manifest)
    success = metrics(folder)["last_success_timestamp_seconds"]
    with pytest.raises(GateError):
        tag(manifest, {**KIND, "gates": {"min_labelled_rows": 5}})
    end = lines(folder)[-1]
    assert (end["exit_code"], end["published"], end["level"]) == (3, False, "ERROR")
    assert end["message"].startswith(
        "gate min_labelled_rows, kind: expected at least 5, found 4 on 8 rows; the results are written"
    )
    found = metrics(folder)
    assert (found["exit_code"], found["rows tagged"]) == (3, 8)
    assert found["last_success_timestamp_seconds"] == success < found["last_end_timestamp_seconds"]


def test_metrics_are_those_of_the_summary(tag, write_manifest):
    manifest = write_manifest([*NAMES, "none.png"], kind=["shirt", None] * 4 + ["dress"])
    tag(manifest)
    summary = tag(manifest)
    found = metrics(manifest.with_name("manifest.tagged.run"))
    evaluated = summary.evaluation.attributes["kind"]
    ended = found.pop("last_end_timestamp_seconds")
    assert abs(ended - time.time()) < 60
    assert found == {
        "last_success_timestamp_seconds": ended,
        "exit_code": 0,
        "rows tagged": summary.tagged,
        "rows review": summary.review,
        "rows error": 1,
        "errors missing": 1,
        "accuracy kind": evaluated.accuracy,
        "macro_f1 kind": evaluated.macro_f1,
        "changed_labels_ratio kind": 0,
        "label_stability_index kind": 0,
        "drift_warnings": 0,
        "encoded_images": summary.encoded_images,
        "images_per_second": summary.images_per_second,
        **{f"stage_seconds {stage}": seconds for stage, seconds in summary.stage_seconds.items()},
        "peak_memory_bytes": summary.peak_memory_bytes,
    }


def torn(manifest: Path, options: dict[str, Any]) -> None:
    manifest.write_bytes(b"torn")


def wrong_settings(manifest: Path, options: dict[str, Any]) -> None:
    options["config"] = {"gates": {"min_accuracy": 90}}


def no_image_root(manifest: Path, options: dict[str, Any]) -> None:
    options["image_root"] = manifest.with_name("unmounted")


def no_model(manifest: Path, options: dict[str, Any]) -> None:
    options["model"] = "./no-model"


def no_previous(manifest: Path, options: dict[str, Any]) -> None:
    options["previous"] = manifest.with_name("no-night") / "tagged.parquet"


@pytest.mark.parametrize(
    ("trouble", "code"), [(torn, 65), (wrong_settings, 78), (no_image_root, 78), (no_model, 69), (no_previous, 65)]
)
def test_a_night_that_never_began_leaves_its_start_its_end_and_the_last_success(
    tag, manifest: Path, tmp_path: Path, trouble, code
):
    for night in ("one", "two"):
        (tmp_path / night).mkdir()
    good = tag(manifest, output=tmp_path / "one" / "tagged.parquet")
    (tmp_path / "current").symlink_to("one")
    options = {"output": tmp_path / "two" / "tagged.parquet", "previous": tmp_path / "current" / "tagged.parquet"}
    success = metrics(tmp_path / "one" / "tagged.run")["last_success_timestamp_seconds"]
    trouble(manifest, options)
    config = options.pop("config", KIND)
    with pytest.raises(TaggerError) as caught:
        tag(manifest, config, **options)
    folder = tmp_path / "two" / "tagged.run"
    start, *_, end = lines(folder)
    assert (start["event"], end["event"], end["exit_code"], end["published"]) == ("start", "end", code, False)
    assert end["message"] == str(caught.value)
    found = metrics(folder)
    expected = {"exit_code", "last_success_timestamp_seconds", "last_end_timestamp_seconds"}
    assert (found.keys(), found["exit_code"]) == (expected, code)
    assert found["last_success_timestamp_seconds"] == (0 if trouble is no_previous else success)
    assert not (tmp_path / "two" / "tagged.parquet").exists()
    assert good.output.exists()
    # The next night that fails in the same place still knows.
    with pytest.raises(TaggerError):
        tag(manifest, config, **options)
    assert metrics(folder)["last_success_timestamp_seconds"] == found["last_success_timestamp_seconds"]


def test_a_stopped_run_ends_with_75(tag, manifest: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(shutdown, "requested", True)
    with pytest.raises(KeyboardInterrupt):
        tag(manifest)
    end = lines(manifest.with_name("manifest.tagged.run"))[-1]
    assert (end["exit_code"], end["published"]) == (75, False)


def test_a_killed_run_leaves_a_start_without_an_end_and_its_progress(write_manifest, small_clip, pictures, tmp_path: Path):
    manifest = write_manifest(NAMES * 30_000)
    script = "from tagger.reports import event_log; event_log.PROGRESS_SECONDS = 0.1; from tagger.cli.main import main; main()"
    command = [sys.executable, "-c", script, "run", str(manifest), "--model", str(small_clip), "--image-root", str(pictures)]
    log = tmp_path / "manifest.tagged.run" / "log.jsonl"
    with subprocess.Popen([*command, "--quiet", "--no-cache"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        deadline = time.monotonic() + 120
        while not (log.exists() and any(line.get("rows") for line in lines(log.parent))) and time.monotonic() < deadline:
            time.sleep(0.05)
        assert is_live(log)
        process.send_signal(signal.SIGKILL)
    deadline = time.monotonic() + 25
    while is_live(log) and time.monotonic() < deadline:  # decoding processes end a moment later
        time.sleep(0.05)
    assert not is_live(log)
    found = lines(log.parent)
    events = [line.get("event") for line in found]
    assert (events[0], "end" in events) == ("start", False)
    assert {line["errors"] for line in found if line.get("event") == "progress"} == {0}


def test_many_who_look_at_once_do_not_take_each_other_for_a_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    log = Journal(tmp_path, "1")
    log.event("start", "a night")
    tmp_path.chmod(0o555)  # a folder that may only be read can be looked at, too
    lock = journal.fcntl.flock

    def lock_slowly(*arguments: Any) -> None:
        lock(*arguments)
        time.sleep(0.02)

    monkeypatch.setattr(journal.fcntl, "flock", lock_slowly)
    with ThreadPoolExecutor(8) as threads:
        assert set(threads.map(is_live, [tmp_path / "log.jsonl"] * 8)) == {True}
        log.close()
        assert set(threads.map(is_live, [tmp_path / "log.jsonl"] * 8)) == {False}


def test_a_place_that_is_not_known_gets_no_log(tag, tmp_path: Path):
    with pytest.raises(TaggerError):
        tag(tmp_path / "nowhere.parquet")
    with pytest.raises(TaggerError):
        tag(tmp_path / "nowhere.parquet", output=tmp_path / "no-folder" / "out.parquet")
    assert list(tmp_path.iterdir()) == []


def test_a_log_that_cannot_be_written_ends_no_run(tag, manifest: Path):
    folder = manifest.with_name("manifest.tagged.run")
    (folder / "log.jsonl").mkdir(parents=True)
    assert tag(manifest).published


def test_metrics_that_cannot_be_written_are_said_and_do_not_deny_the_results(tag, manifest: Path, caplog):
    (manifest.with_name("manifest.tagged.run") / "metrics.prom").mkdir(parents=True)
    assert tag(manifest).published
    assert ["expected to write metrics.prom, found" in message for message in caplog.messages] == [True]


def test_a_torn_line_costs_no_other(tmp_path: Path):
    with (tmp_path / "log.jsonl").open("w") as file:
        file.write('{"time": "2026')
    log = Journal(tmp_path, "1")
    log.event("start", "one")
    log.close()
    torn, line = (tmp_path / "log.jsonl").read_text().splitlines()
    assert (torn, json.loads(line)["message"]) == ('{"time": "2026', "one")


def test_a_full_disk_costs_only_lines(tmp_path: Path):
    if not os.path.exists("/dev/full"):  # noqa: PTH110
        pytest.skip("no device that is always full")
    (tmp_path / "log.jsonl").symlink_to("/dev/full")
    log = Journal(tmp_path, "1")
    log.event("start", "one")
    log.event("end", "two")
    log.close()


def test_a_line_is_one_line_without_secrets_whatever_is_said(tmp_path: Path):
    log = Journal(tmp_path, "1")
    log.event("start", "evil\n\x1b[31m https://user:5ec2e7@host/a?token=5ec2e7", manifest="a\u2028\x1b\udcff\n{}")
    log.close()
    text = (tmp_path / "log.jsonl").read_text()
    assert (text.count("\n"), "5ec2e7" in text, "\x1b" in text) == (1, False, False)
    assert json.loads(text)["manifest"] == "a\u2028\x1b\udcff\n{}"


def test_progress_is_said_now_and_then(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    now = [0.0]
    monkeypatch.setattr(journal.time, "monotonic", lambda: now[0])
    log = Journal(tmp_path, "1")
    for now[0] in range(0, 100, 10):
        log.progress(int(now[0]), 1)
    log.close()
    assert [(line["rows"], line["errors"], line["event"]) for line in lines(tmp_path)] == [
        (30, 1, "progress"),
        (60, 1, "progress"),
        (90, 1, "progress"),
    ]
