"""Real parts for the tests: the sample catalogue and its model, real photos, and manifests made of them."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tagger.encoders.clip import ClipEncoder
from tagger.inference.predictor import Predictor
from tagger.inference.predictors import zero_shot
from tagger.inference.prompts import PromptEmbeddings
from tagger.inference.store import Store
from tagger.settings.attributes import Attribute

ROOT = Path(__file__).parents[1]
SAMPLE = ROOT / "sample_catalog"
SHARED = Path(os.environ.get("TAGGER_TEST_DATA", ROOT.parent / "shared" / "data"))

WriteManifest = Callable[..., Path]


@pytest.fixture(scope="session")
def small_clip() -> Path:
    """The sample catalogue's checkpoint: a real CLIP, small and trained."""
    return SAMPLE / "model"


@pytest.fixture(scope="session")
def pictures() -> Path:
    """The sample catalogue's images; 0000.png to 0599.png, three of them bad (see sample_catalog/README.md)."""
    return SAMPLE / "images"


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Photos, hostile images and Parquet files that are not part of the repository."""
    if not SHARED.is_dir():
        pytest.skip(f"no test data at {SHARED}; set TAGGER_TEST_DATA")
    return SHARED


@pytest.fixture(scope="session")
def encoder(small_clip: Path) -> ClipEncoder:
    import torch

    from tagger.encoders.clip import load_clip

    return load_clip(str(small_clip), None, torch.device("cpu"))


@pytest.fixture(scope="session")
def predictor(encoder: ClipEncoder) -> Predictor:
    attribute = Attribute(name="category", labels=("shirt", "dress", "shoes"))
    return zero_shot(encoder, [attribute], PromptEmbeddings(encoder, Store()))


@pytest.fixture
def write_manifest(tmp_path: Path) -> WriteManifest:
    """Write a manifest of these images (paths, bytes, structs or None) and other columns."""

    def write(images: Sequence[Any], name: str = "manifest.parquet", image_column: str = "image_path", **columns: Any) -> Path:
        path = tmp_path / name
        pq.write_table(pa.table({image_column: images, **columns}), path)
        return path

    return write


@pytest.fixture(scope="session", autouse=True)
def _no_cache_of_the_user(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Not even for fixtures that several tests share."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture(autouse=True)
def _somewhere_else(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No test picks up a tagger.toml or an embedding, or leaves a file, where the tests were started."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
