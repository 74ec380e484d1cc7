"""nightly.sh with the real command: a bad night never replaces a good one, whatever happens to it."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from prometheus_client.parser import text_string_to_metric_families

from tagger.reports.prometheus import LAST_SUCCESS

ROOT = Path(__file__).parents[2]
FIRST, TONIGHT = "2026-11-23", "2026-11-24"
SETTINGS = f"""
model.name = "{ROOT}/sample_catalog/model"
manifest.image_root = "{ROOT}/sample_catalog/images"
[[attribute]]
name = "category"
labels = ["shirt", "dress", "sneaker"]
"""


def start(folder: Path, *options: str, night: str = TONIGHT, **settings: str) -> subprocess.Popen[str]:
    environment = os.environ | {"TAGGER": str(Path(sys.executable).with_name("tagger")), "NIGHT": night} | settings
    environment["XDG_CACHE_HOME"] = str(folder / "cache")
    return subprocess.Popen(
        [ROOT / "jobs" / "nightly.sh", "--workers", "0", *options],
        cwd=folder,
        env=environment,
        start_new_session=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def run(folder: Path, *options: str, **settings: str) -> tuple[int, str, str]:
    process = start(folder, *options, **settings)
    output, errors = process.communicate(timeout=120)
    return process.returncode, output, errors


def write_catalogue(folder: Path, *images: str) -> None:
    pq.write_table(pa.table({"image_path": images}), folder / "manifest.parquet")


def wait_for(path: Path) -> None:
    end = time.monotonic() + 60
    while not path.exists():
        assert time.monotonic() < end, f"{path} did not appear"
        time.sleep(0.001)


def published(folder: Path) -> str:
    return str((folder / "nights" / "current").readlink())


def result(folder: Path, night: str = "current") -> bytes:
    return (folder / "nights" / night / "tagged.parquet").read_bytes()


@pytest.fixture(scope="module")
def first_night(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("first")
    (folder / "tagger.toml").write_text(SETTINGS)
    write_catalogue(folder, *(f"{number:04}.png" for number in range(8)))
    code, output, errors = run(folder, night=FIRST)
    assert (code, output.splitlines()[-1], errors) == (0, f"nightly: {FIRST} is published", "")
    return folder


@pytest.fixture
def folder(first_night: Path, tmp_path: Path) -> Path:
    """The morning after the first night."""
    return shutil.copytree(first_night, tmp_path / "job", symlinks=True)


def test_a_night_is_published_once(folder: Path):
    before = (folder / "nights" / FIRST / "tagged.parquet").stat()
    assert run(folder, night=FIRST) == (0, f"nightly: {FIRST} is published already\n", "")
    assert (folder / "nights" / FIRST / "tagged.parquet").stat() == before


def test_the_next_night_encodes_nothing_and_the_one_before_stays(folder: Path):
    assert run(folder)[0] == 0
    assert published(folder) == TONIGHT
    assert json.loads((folder / "nights" / "current" / "tagged.run" / "summary.json").read_text())["encoded_images"] == 0
    assert result(folder) == result(folder, FIRST)


def test_a_night_that_fails_its_gate_is_not_published(folder: Path):
    write_catalogue(folder, "0000.png", "no-such.png")
    code, _, errors = run(folder, "--max-errors", "0")
    assert code == 3
    assert errors.splitlines()[-1] == f"nightly: {TONIGHT} is not published: tagger ended with 3; published is {FIRST} as before"
    assert published(folder) == FIRST


def test_the_metrics_of_every_night_are_handed_over(folder: Path):
    """A failed night's say how it ended, and still when the last good one was."""
    metrics = folder / "tagger.prom"
    assert run(folder, METRICS_DIR=str(folder))[0] == 0
    good = samples(metrics)
    write_catalogue(folder, "no-such.png")
    assert run(folder, "--max-errors", "0", night="2026-11-25", METRICS_DIR=str(folder))[0] == 3
    failed = samples(metrics)
    assert (good["tagger_exit_code"], failed["tagger_exit_code"]) == (0, 3)
    assert failed[LAST_SUCCESS] == good[LAST_SUCCESS] > 0
    assert not list(folder.glob("*.new"))


def samples(metrics: Path) -> dict[str, float]:
    families = text_string_to_metric_families(metrics.read_text())
    return {sample.name: sample.value for family in families for sample in family.samples if not sample.labels}


def test_a_night_without_a_catalogue_is_not_published(folder: Path):
    (folder / "manifest.parquet").unlink()
    assert run(folder)[0] == 65
    assert published(folder) == FIRST


@pytest.mark.parametrize("moment", ["tagged.run", "tagged.parquet"], ids=["while it runs", "before the link is changed"])
def test_a_night_that_was_killed_is_made_up_for(folder: Path, moment: str):
    process = start(folder)
    wait_for(folder / "nights" / TONIGHT / moment)
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate()
    assert published(folder) == FIRST
    assert run(folder)[0] == 0
    assert published(folder) == TONIGHT
    assert result(folder) == result(folder, FIRST)


def test_a_second_start_ends_at_once_also_when_only_tagger_is_left_of_the_first(folder: Path):
    second = (75, "", "nightly: expected no other night in nights, found one that is running; start again when it has ended\n")
    first = start(folder)
    wait_for(folder / "nights" / TONIGHT / "tagged.run")
    assert run(folder) == second
    first.kill()
    assert run(folder) == second
    first.communicate()  # returns when tagger has ended, too
    assert published(folder) == FIRST
    assert run(folder)[0] == 0
    assert published(folder) == TONIGHT


@pytest.mark.parametrize("moment", [".", "tagged.run"], ids=["while tagger starts", "while it runs"])
def test_a_stop_of_the_script_alone_reaches_tagger(folder: Path, moment: str):
    process = start(folder)
    wait_for(folder / "nights" / TONIGHT / moment)
    process.terminate()
    _, errors = process.communicate(timeout=25)
    assert process.returncode == 75
    assert errors.splitlines()[-1] in {
        f"nightly: {TONIGHT} is not published: tagger ended with 75; published is {FIRST} as before",
        "nightly: stopped before tagger was started; nothing was published",
    }
    with pytest.raises(ProcessLookupError):
        os.killpg(process.pid, 0)
    assert published(folder) == FIRST


def test_old_nights_go_and_the_published_one_and_what_people_put_there_stay(folder: Path):
    nights = folder / "nights"
    for name in ("2026-11-01", "2026-11-02", "2026-11-02.2", "2027-01-01"):  # the last by a clock that was wrong
        shutil.copytree(nights / FIRST, nights / name)
    (nights / "2026-11-03").mkdir()  # killed before it began
    (nights / "2026-11-01" / "look-at-this.txt").touch()
    (nights / "2026-10-notes").mkdir()
    (nights / "2026-10-01").symlink_to("2026-11-02")
    assert run(folder, KEEP="1")[0] == 0
    assert {path.name for path in nights.iterdir()} == {
        *("lock", "current", TONIGHT, "2027-01-01", "2026-11-01", "2026-10-notes", "2026-10-01"),
    }
    assert published(folder) == TONIGHT


@pytest.mark.parametrize(
    ("code", "settings", "message"),
    [
        (78, {"night": "tonight"}, "expected NIGHT to begin with a date like 2026-11-24, found tonight"),
        (78, {"KEEP": "0"}, "expected KEEP to be a number from 1 on, found 0"),
        (78, {"TAGGER": "taggre"}, "expected TAGGER to be tagger's command, found no command taggre; give its whole path"),
        (78, {"NIGHTS": "real"}, "expected real/current to be a link, found a file or folder; move it away"),
        (2, {"night": "2026-11-22"}, f"expected NIGHT to be later than the published {FIRST}, found 2026-11-22; name another"),
    ],
)
def test_a_mistake_is_one_line(folder: Path, code: int, settings: dict[str, str], message: str):
    (folder / "real" / "current").mkdir(parents=True)
    assert run(folder, **settings) == (code, "", f"nightly: {message}\n")
    assert published(folder) == FIRST
