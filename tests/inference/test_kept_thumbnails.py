"""Small pictures: the same whether they are made or known, and nothing is decoded that is known."""

from __future__ import annotations

import hashlib
import shutil
from pathlib import Path

import pytest

from tagger.core.errors import ImageError
from tagger.core.types import ImagePolicy, ImageRef
from tagger.images import file_versions, resilient_loader
from tagger.images.file_versions import FileVersions
from tagger.images.thumbnails import Thumbnail, read_thumbnails
from tagger.inference.kept_thumbnails import keep_thumbnails
from tagger.inference.store import Store


@pytest.fixture
def refs(pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[ImageRef]:
    monkeypatch.setattr(file_versions, "SETTLED_NS", 0)
    for name in ("0000.png", "0001.png"):
        shutil.copy(pictures / name, tmp_path)
    embedded = (pictures / "0002.png").read_bytes()
    return [ImageRef(0, path="0000.png"), ImageRef(4, data=embedded), ImageRef(5, path="none.png"), ImageRef(9, path="0001.png")]


def read_by_a_run(refs: list[ImageRef], policy: ImagePolicy, store: Store) -> None:
    """Keep what a run keeps of the files that it has read: which bytes they have."""
    versions, files = FileVersions(policy), {}
    for ref in refs:
        if ref.path is not None and (file := versions(ref.path)) is not None and file[1]:
            files[file[0]] = (file[1], hashlib.sha256((policy.roots[0] / ref.path).read_bytes()).digest())
    with store.open("embeddings") as cache:
        assert cache is not None
        cache.keep({}, files)


def test_pictures_are_kept_by_their_images_bytes(refs: list[ImageRef], tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    policy, store = ImagePolicy(roots=(tmp_path.resolve(),)), Store(tmp_path / "cache", 1 << 30)
    read_by_a_run(refs, policy, store)
    expected = {row: found for row, found in read_thumbnails(refs, policy, workers=0) if isinstance(found, Thumbnail)}
    first = dict(keep_thumbnails(refs, policy, store, workers=0))
    decoded: list[int] = []
    load = resilient_loader.load_images

    def counted(batches, reading):
        for batch in load(batches, reading):
            decoded.append(len(batch.rows))
            yield batch

    monkeypatch.setattr(resilient_loader, "load_images", counted)
    again = dict(keep_thumbnails(refs, policy, store, workers=0))
    for found in (first, again):
        assert set(found) == {0, 4, 5, 9}
        assert {row: one for row, one in found.items() if isinstance(one, Thumbnail)} == expected
        assert isinstance(found[5], ImageError)
    assert sum(decoded) == 0


def test_a_changed_file_has_another_picture(refs: list[ImageRef], pictures: Path, tmp_path: Path):
    policy, store = ImagePolicy(roots=(tmp_path.resolve(),)), Store(tmp_path / "cache", 1 << 30)
    read_by_a_run(refs, policy, store)
    first = dict(keep_thumbnails(refs, policy, store, workers=0))
    shutil.copy(pictures / "0007.png", tmp_path / "0000.png")
    again = dict(keep_thumbnails(refs, policy, store, workers=0))
    assert again[0] != first[0]
    assert again[9] == first[9]


def test_without_a_store_pictures_are_read_each_time(refs: list[ImageRef], tmp_path: Path):
    policy = ImagePolicy(roots=(tmp_path.resolve(),))
    found = dict(keep_thumbnails(refs, policy, Store(), workers=0))
    assert [row for row, one in found.items() if isinstance(one, Thumbnail)] == [0, 4, 9]
