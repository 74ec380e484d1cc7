"""A night in which nothing is encoded: no torch is imported, and the results are the same to the byte."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pyarrow.parquet as pq
import pytest

import tagger
from tagger.cache.cache_file import FILE
from tagger.cache.embedding_cache import cache_folder
from tests.conftest import WriteManifest
from tests.helpers.keywords import keywords
from tests.helpers.pictures import is_whole

RUN = """
import sys

class Forbidden:
    def find_spec(name, path=None, target=None):
        if name in ("torch", "torchvision", "transformers"):
            raise ImportError(f"{name} is not to be imported")

sys.meta_path.insert(0, Forbidden)
from tagger.cli.main import main
main()
"""
LABELS = ["t-shirt", "dress", "sneaker"]


@pytest.fixture
def manifest(write_manifest: WriteManifest, pictures: Path) -> Path:
    """Eight pictures, and the three rows of the sample catalogue that are bad on purpose."""
    table = pq.read_table(pictures.parent / "manifest.parquet")
    bad = [name for name in table["image_path"].to_pylist() if not is_whole(pictures / name)]
    return write_manifest([*(f"{number:04}.png" for number in range(8)), *bad])


def run(manifest: Path, model: Path, pictures: Path, labels: Sequence[str] = LABELS, **options: object) -> bytes:
    given = keywords(model=str(model), labels=list(labels), image_root=str(pictures), overwrite=True, **options)
    return Path(tagger.run(str(manifest), **given).output).read_bytes()


def run_without_torch(manifest: Path, model: Path, pictures: Path, labels: Sequence[str] = LABELS) -> bytes:
    options = ["--model", str(model), "--image-root", str(pictures), "--overwrite", "--no-report"]
    command = [sys.executable, "-c", RUN, "run", str(manifest), *options, "--labels", ",".join(labels)]
    done = subprocess.run(command, capture_output=True, text=True, env=os.environ.copy(), check=False)
    assert done.returncode == 0, done.stderr
    return manifest.with_name("manifest.tagged.parquet").read_bytes()


def test_an_unchanged_night_imports_no_torch_and_writes_the_same_bytes(manifest: Path, small_clip: Path, pictures: Path):
    first = run(manifest, small_clip, pictures)
    assert run_without_torch(manifest, small_clip, pictures) == first
    assert run(manifest, small_clip, pictures, verify_content=True) == first  # which loads the model


def test_other_labels_that_are_known_need_no_torch(manifest: Path, small_clip: Path, pictures: Path):
    run(manifest, small_clip, pictures)
    others = run(manifest, small_clip, pictures, LABELS[1:])
    assert run_without_torch(manifest, small_clip, pictures, LABELS[1:]) == others


def test_a_pruned_cache_gives_the_same_bytes(manifest: Path, small_clip: Path, pictures: Path):
    first = run(manifest, small_clip, pictures)
    run(manifest, small_clip, pictures, LABELS[1:])
    folder = cache_folder()
    assert folder is not None
    (folder / FILE).unlink()  # images and prompts; what the model is stays known
    assert run(manifest, small_clip, pictures) == first
    assert run_without_torch(manifest, small_clip, pictures) == first


def test_a_new_image_is_encoded_by_the_model_that_was_remembered(
    manifest: Path, small_clip: Path, pictures: Path, tmp_path: Path
):
    first = run(manifest, small_clip, pictures, limit=4)
    assert len(first) > 0
    whole = run(manifest, small_clip, pictures)
    assert run_without_torch(manifest, small_clip, pictures) == whole
