"""Which checkpoints are known without asking the hub."""

from __future__ import annotations

from pathlib import Path

import pytest
from huggingface_hub import constants

from tagger.encoders.clip_files import find_checkpoint

COMMIT = "3d74acf9a28c67741b2f4f2ea7635f0aaf6f0268"


@pytest.fixture
def cached(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder in the hub's cache of a commit that was fetched before."""
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    folder = tmp_path / "models--shop--clip" / "snapshots" / COMMIT
    folder.mkdir(parents=True)
    return folder


def test_a_local_folder_is_known(tmp_path: Path):
    assert find_checkpoint(str(tmp_path), None) == tmp_path


def test_a_commit_in_the_hubs_cache_is_known(cached: Path):
    assert find_checkpoint("shop/clip", COMMIT) == cached


@pytest.mark.parametrize("revision", [None, "main", COMMIT[:12], COMMIT.replace("3", "4")])
def test_what_may_move_and_what_was_not_fetched_is_not(cached: Path, revision: str | None):
    """A branch may lead elsewhere tomorrow, so the hub has to be asked."""
    assert find_checkpoint("shop/clip", revision) is None
