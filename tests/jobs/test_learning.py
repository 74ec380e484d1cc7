"""nightly.sh with the step that learns a head first: whatever becomes of the learning, the night is published."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.conftest import SAMPLE
from tests.jobs.test_nightly import TONIGHT, published, run, start, wait_for
from tests.training.test_resnet18 import LABELS
from tests.workflows.test_train_head import CODES

LEARNING = {"LEARN": "manifest.parquet", "CALIBRATE": "--output calibration.json --workers 0"}
SETTINGS = f"""
model.name = "{SAMPLE}/model"
manifest.image_root = "{SAMPLE}/images"
[[attribute]]
name = "category"
labels = {json.dumps(list(CODES.values()))}
truth_column = "category"
head = "head.safetensors"
calibration = "calibration.json"
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "tagger.toml").write_text(SETTINGS)
    return tmp_path


def write_catalogue(folder: Path, labelled: bool = True) -> None:
    """Write those pictures of the sample catalogue that have one of three labels, with a code that tells the prompts nothing."""
    table = pq.read_table(SAMPLE / "manifest.parquet")
    table = table.filter([value in LABELS for value in table["category"].to_pylist()])
    codes = [CODES[value] if labelled else None for value in table["category"].to_pylist()]
    table = table.select(["image_path"]).append_column("category", pa.array(codes, pa.string()))
    pq.write_table(table, folder / "manifest.parquet")


def tonight(folder: Path) -> dict[str, Any]:
    """What decided in the night that is published, and the number of rows of each source."""
    night = folder / "nights" / "current"
    summary = json.loads((night / "tagged.run" / "summary.json").read_text())
    sources = pq.read_table(night / "tagged.parquet")["category_source"].unique().drop_null().to_pylist()
    return {"sources": sources, "confidence": summary["confidence"]["category"]}


def test_a_head_is_learned_and_calibrated_and_until_then_the_prompts_decide(folder: Path):
    write_catalogue(folder, labelled=False)
    (folder / "head.safetensors").write_text("new, but killed before it was calibrated")
    (folder / "head.safetensors.before").touch()  # empty: there was none
    for night, code, catalogue, calibrate in (
        ("2026-11-21", 65, {"labelled": False}, LEARNING["CALIBRATE"]),  # nothing to learn from
        ("2026-11-22", 2, {}, "--output none/calibration.json"),  # a head that cannot be calibrated
    ):
        write_catalogue(folder, **catalogue)
        ended, _, errors = run(folder, "--no-report", night=night, LEARN=LEARNING["LEARN"], CALIBRATE=calibrate)
        assert (ended, published(folder)) == (0, night), errors
        assert errors.splitlines()[-1] == (
            f"nightly: expected to learn from manifest.parquet, and cannot ({code}); the night goes on with the head that was "
            "there, if there was one"
        )
        assert tonight(folder) == {"sources": ["clip"], "confidence": "uncalibrated"}
        assert not list(folder.glob("head.safetensors*"))

    ended, output, errors = run(folder, "--no-report", **LEARNING)
    assert (ended, published(folder)) == (0, TONIGHT), errors
    assert "nightly:" not in errors  # other tags than the prompts' are drift, which a run may say there
    assert "each held out once; zero-shot" in output
    assert output.splitlines()[-1] == f"nightly: {TONIGHT} is published"
    assert tonight(folder) == {"sources": ["head"], "confidence": "calibrated"}
    assert [path.name for path in folder.glob("head.safetensors*")] == ["head.safetensors"]


def test_a_stop_while_it_learns_ends_the_night(folder: Path):
    write_catalogue(folder)
    process = start(folder, **LEARNING)
    wait_for(folder / "nights" / TONIGHT / "tagged.learning.log")
    process.terminate()
    _, errors = process.communicate(timeout=25)
    assert (process.returncode, errors.splitlines()[-1]) == (75, "nightly: stopped while it learned; nothing was published")
    with pytest.raises(ProcessLookupError):
        os.killpg(process.pid, 0)
    assert not (folder / "nights" / "current").exists()


def test_learning_elsewhere_needs_settings(folder: Path):
    message = "expected CONFIG, because LEARN lies in another folder than MANIFEST, found none; name the settings of both"
    assert run(folder, LEARN="other/labelled.parquet") == (78, "", f"nightly: {message}\n")
