"""What a job is made of, checked before any model is loaded."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tagger.catalog.object_storage import Workspace
from tagger.core.errors import ConfigError, ManifestError
from tagger.encoders.pinned import PIN_FILE, Pinned
from tagger.inference.job import Job, open_job
from tagger.settings.load import load_settings
from tagger.settings.options import Output
from tagger.workflows.plan import make_plan
from tests.conftest import WriteManifest

COMMIT = "0123456789abcdef0123456789abcdef01234567"


def job(manifest: Path, **overrides: Any) -> Job:
    with Workspace() as space:
        return open_job(str(manifest), load_settings(str(manifest), **overrides), space)


@pytest.fixture
def pinned(tmp_path: Path) -> Path:
    folder = tmp_path / "clip"
    folder.mkdir()
    (folder / PIN_FILE).write_text(Pinned(repository="a/b", commit=COMMIT, files={}).model_dump_json())
    return folder


@pytest.mark.parametrize("revision", [None, COMMIT])
def test_a_pinned_folder_says_its_commit(write_manifest: WriteManifest, pinned: Path, revision: str | None):
    assert job(write_manifest(["a.png"]), model=pinned, revision=revision).settings.model.revision == COMMIT


def test_a_pinned_folder_refuses_another_revision(write_manifest: WriteManifest, pinned: Path):
    with pytest.raises(ConfigError, match=f"expected revision main, found a copy of {COMMIT}; pull that revision, or leave"):
        job(write_manifest(["a.png"]), model=pinned, revision="main")


def test_only_a_run_minds_columns_named_like_the_tags(write_manifest: WriteManifest):
    manifest = write_manifest(["a.png"], category=["hat"], category_label=["hat"])
    learned = job(manifest, labels=["hat", "bag"])
    assert learned.attributes[0].truth_column == "category"
    with (
        Workspace() as space,
        pytest.raises(ManifestError, match="expected no columns named like the tags, found category_label"),
    ):
        make_plan(learned, space, Output(report=False))


def test_labels_are_given_to_one_attribute_alone(write_manifest: WriteManifest):
    attribute = {"name": "kind", "labels": ["a", "b"], "review_below": 0.5}
    manifest = write_manifest(["a.png"])
    with Workspace() as space:
        settings = load_settings(str(manifest), {"attribute": [attribute]}, labels=["hat", "bag"])
        [chosen] = open_job(str(manifest), settings, space).attributes
    assert (chosen.name, chosen.label_names, chosen.review_below) == ("kind", ("hat", "bag"), 0.5)
