"""Outputs of all commands are tried before any work."""

from __future__ import annotations

from pathlib import Path

import pytest

import tagger
from tagger.core.errors import UsageError
from tests.conftest import WriteManifest

# Outputs are tried before a manifest is looked for: none of these commands gets to miss it.
COMMANDS = {
    "r.safetensors": tagger.train_resnet18,
    "calibration.json": tagger.calibrate,
    "comparison": tagger.compare,
}


@pytest.mark.parametrize("name", COMMANDS)
def test_an_output_that_cannot_be_is_refused_before_any_work(name: str, tmp_path: Path):
    command, file = COMMANDS[name], tmp_path / name
    nowhere = tmp_path / "file" / name
    (tmp_path / "file").touch()
    long = tmp_path / ("a" * 250 + name)
    if name == "comparison":
        (file / "predictions.parquet").mkdir(parents=True)
    else:
        file.mkdir()
    for place in (nowhere, long, file):
        with pytest.raises(UsageError, match=f"^--output {place}"):
            command("none.parquet", place, overwrite=True)
    there = tmp_path / "there" / name
    ((there / "comparison.json") if name == "comparison" else there).parent.mkdir(parents=True)
    ((there / "comparison.json") if name == "comparison" else there).touch()
    with pytest.raises(UsageError, match="expected no file, found one; remove it, or use --overwrite to replace it"):
        command("none.parquet", there)


def test_a_calibration_does_not_replace_its_manifest(write_manifest: WriteManifest):
    manifest = write_manifest(["a.png"])
    before = manifest.read_bytes()
    with pytest.raises(UsageError, match="expected another file than the manifest, found the manifest itself"):
        tagger.calibrate(manifest, manifest, overwrite=True)
    assert manifest.read_bytes() == before


def test_a_result_is_tried_before_the_model_is_loaded(write_manifest: WriteManifest, tmp_path: Path):
    for name, found in (("a" * 250 + ".parquet", "File name too long"), ("folder", "found a folder")):
        (tmp_path / "folder").mkdir(exist_ok=True)
        with pytest.raises(UsageError, match=found):
            tagger.run(
                write_manifest(["a.png"]),
                labels=["hat", "bag"],
                output=tagger.Output(report=False, path=tmp_path / name),
                model="./none",
            )
