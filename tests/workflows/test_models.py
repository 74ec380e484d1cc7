"""A checkpoint that is quantised once, in its own folder, and what runs make of it; by a real hub on loopback, too."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pyarrow.parquet as pq
import pytest

import tagger
from tagger.core.errors import ConfigError, ManifestError, ModelError, TaggerError, UsageError
from tagger.encoders.hub import verify
from tagger.encoders.int8_file import read_int8
from tagger.workflows import models
from tests.conftest import SAMPLE
from tests.encoders.test_hub import FILES, NAME, files_of, names, pull, refusal
from tests.helpers.hub_server import HubServer
from tests.helpers.keywords import keywords

ROWS = 40


@pytest.fixture(scope="module")
def manifest(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A few rows of the sample catalogue, with its settings beside them."""
    folder = tmp_path_factory.mktemp("catalogue")
    pq.write_table(pq.read_table(SAMPLE / "manifest.parquet").slice(0, ROWS), folder / "manifest.parquet")
    (folder / "tagger.toml").write_text(f'[manifest]\nimage_root = "{SAMPLE / "images"}"\n')
    return folder / "manifest.parquet"


@pytest.fixture(scope="module")
def checkpoint(small_clip: Path, manifest: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder that was quantised."""
    folder = shutil.copytree(small_clip, tmp_path_factory.mktemp("models") / "clip")
    models.quantise(folder, str(manifest))
    return folder


@pytest.fixture
def quantised(checkpoint: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(checkpoint, tmp_path / "clip"))


@pytest.fixture
def hub(small_clip: Path) -> Iterator[HubServer]:
    server = HubServer()
    server.put(NAME, files_of(small_clip))
    yield server
    server.stop()


def tag(manifest: Path, model: Path, cache: Path | bool) -> tuple[tagger.RunSummary, bytes]:
    options = {"model": model, "backend": "openvino", "precision": "int8", "cache": cache, "workers": 0, "overwrite": True}
    output = manifest.with_name("tagged.parquet")
    return tagger.run(manifest, **keywords(path=output, **options)), output.read_bytes()


def the_file(folder: Path) -> Path:
    [file] = (folder / "int8").iterdir()
    return file


def test_the_folders_model_is_the_one_that_a_run_would_make(
    manifest: Path, small_clip: Path, checkpoint: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
):
    folder, old, new = tmp_path / "clip", tmp_path / "old", tmp_path / "new"
    shutil.copytree(small_clip, folder)
    before = names(folder)
    first = tag(manifest, folder, old)[1]
    assert names(folder) == before  # a run writes nothing there
    assert len(list((old / "int8").iterdir())) == 1
    shutil.copytree(checkpoint / "int8", folder / "int8")
    caplog.clear()
    summary, second = tag(manifest, folder, new)
    assert (summary.encoded_images, second) == (ROWS, first)
    assert not (new / "int8").exists()
    assert tag(manifest, folder, False)[1] == first
    assert not [message for message in caplog.messages if message.startswith("quantising")]
    summary, again = tag(manifest, folder, old)  # what the cache knows of the checkpoint's embeddings stays true
    assert (summary.encoded_images, again) == (0, first)


def test_quantising_again_changes_nothing(manifest: Path, quantised: Path, caplog: pytest.LogCaptureFixture):
    before = the_file(quantised).stat().st_mtime_ns
    with caplog.at_level("INFO"):
        assert models.quantise(quantised, str(manifest)) == the_file(quantised)
    assert the_file(quantised).stat().st_mtime_ns == before
    assert f"{the_file(quantised)} is there already" in caplog.messages


def test_a_damaged_file_is_passed_over_by_a_run_and_made_anew(
    manifest: Path, quantised: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
):
    file, found = the_file(quantised), "expected a quantised model, found a damaged one"
    shutil.copytree(quantised / "int8", tmp_path / "cache" / "int8")
    whole = file.read_bytes()
    file.write_bytes(whole[:-1])
    tag(manifest, quantised, tmp_path / "cache")
    assert f"{file}: {found}; going on without it; `tagger models quantise` makes it anew" in caplog.messages
    assert not [message for message in caplog.messages if message.startswith("quantising")]
    assert file.read_bytes() == whole[:-1]
    models.quantise(quantised, str(manifest))
    assert f"{file}: {found}; it is made anew" in caplog.messages
    assert read_int8(file) is not None


@pytest.mark.parametrize(
    ("folder", "root", "error", "words"),
    [
        ("none", "images", ModelError, "none: expected a folder with a CLIP checkpoint, found none; `tagger models pull` "),
        ("empty", "images", ModelError, "empty: expected a CLIP checkpoint in transformers' format, found no config.json"),
        ("in-the-way", "images", UsageError, "in-the-way/int8: expected a folder, or nothing, found a file; choose another name"),
        ("clip", "model", ManifestError, "expected images that can be read in column image_path, to quantise with, found none; "),
    ],
)
def test_what_cannot_be_quantised_is_one_line(
    small_clip: Path, manifest: Path, folder: str, root: str, error: type[TaggerError], words: str
):
    Path("empty").mkdir()
    shutil.copytree(small_clip, "clip")
    shutil.copytree(small_clip, "in-the-way")
    Path("in-the-way", "int8").touch()
    with pytest.raises(error) as caught:
        models.quantise(Path(folder), str(manifest), image_root=SAMPLE / root)
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)
    assert not list(Path().glob("*/int8/*"))


def test_without_the_extra_nothing_is_pulled(manifest: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(sys.modules, "nncf", None)
    with pytest.raises(ConfigError, match="expected nncf, found none; pip install 'tagger\\[openvino\\]'"):
        models.pull(NAME, tmp_path / "clip", manifest=str(manifest))
    assert not (tmp_path / "clip").exists()


def test_a_copy_is_pulled_and_quantised_and_repaired_with_its_int8_model(hub, manifest, checkpoint, tmp_path):
    folder = tmp_path / "clip"
    done = pull(hub, folder, "--quantise", str(manifest))
    assert (done.returncode, done.stdout) == (0, f"{folder}\n")
    assert "tagger: quantising the model to int8 with 32 images of the manifest" in done.stderr
    assert names(folder) == sorted([*FILES, "int8", "tagger-model.json"])
    assert the_file(folder).name == the_file(checkpoint).name
    verify(folder)
    (folder / "config.json").unlink()
    before = the_file(folder).stat().st_mtime_ns
    done = pull(hub, folder, "--quantise", str(manifest))
    assert f"tagger: {the_file(folder)} is there already" in done.stderr
    assert the_file(folder).stat().st_mtime_ns == before


def test_a_pull_of_another_commit_removes_the_int8_model(hub, small_clip, tmp_path):
    folder = tmp_path / "clip"
    assert pull(hub, folder).returncode == 0
    (folder / "int8").mkdir()
    (folder / "int8" / "of-this-commit").touch()
    hub.put(NAME, {**files_of(small_clip), "vocab.json": b"{}"})
    assert pull(hub, folder).returncode == 0
    assert not (folder / "int8").exists()
    verify(folder)


def test_a_manifest_that_is_not_there_is_said_before_anything_is_pulled(hub, tmp_path):
    line = refusal(pull(hub, tmp_path / "clip", "--quantise", "none.parquet"), code=65)
    assert line.startswith("none.parquet: expected a Parquet file")
    assert hub.requests == []


def test_the_command_prints_the_file(manifest: Path, quantised: Path):
    command = [sys.executable, "-m", "tagger", "models", "quantise", str(quantised), str(manifest)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout == f"{the_file(quantised)}\n"
