"""Whether a file is what it was, told by its size and times."""

from __future__ import annotations

import os
import threading
import time
from pathlib import Path

import pytest

from tagger.core.types import ImagePolicy
from tagger.images import file_versions as module
from tagger.images.file_versions import FileVersions


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a file; all is old enough."""
    monkeypatch.setattr(module, "SETTLED_NS", 0)
    folder = tmp_path.resolve() / "images"
    folder.mkdir()
    (folder / "a.jpg").write_bytes(b"one")
    return folder


def version(root: Path, name: str | None, *more: Path) -> tuple[bytes, bytes] | None:
    return FileVersions(ImagePolicy(roots=(root, *more)))(name)


def test_a_file_keeps_its_version_until_it_is_written(root: Path):
    first = version(root, "a.jpg")
    assert first is not None
    assert version(root, "a.jpg") == first
    os.utime(root / "a.jpg", ns=(1, 1))
    (root / "a.jpg").write_bytes(b"two")  # as long as before
    os.utime(root / "a.jpg", ns=(1, 1))  # and, by the owner's word, as old
    second = version(root, "a.jpg")
    assert second is not None
    assert (second[0], second[1] != first[1]) == (first[0], True)


def test_a_file_moved_into_its_place_is_another_version(root: Path):
    first = version(root, "a.jpg")
    (root / "b.jpg").write_bytes(b"two")
    (root / "b.jpg").replace(root / "a.jpg")
    assert version(root, "a.jpg") != first


def test_under_another_policy_it_has_another_name(root: Path, tmp_path: Path):
    alone, wider = version(root, "a.jpg"), version(root, "a.jpg", tmp_path)
    assert alone is not None
    assert wider is not None
    assert alone[0] != wider[0]
    assert version(root, str(root / "a.jpg")) == alone


@pytest.mark.parametrize("name", ["../images/a.jpg", "/etc/hostname", ".", "a\0.jpg", "\ud800.jpg"])
def test_what_must_be_read_to_be_known_has_no_version(root: Path, name: str):
    assert version(root, name) is None


@pytest.mark.parametrize("name", ["none.jpg", "ftp://host/a.jpg", None])
def test_what_is_not_there_is_absent(root: Path, name: str | None):
    assert version(root, name) == module.ABSENT


def test_a_remote_image_has_a_name_and_its_server_the_version(root: Path, tmp_path: Path):
    """A name that shows nothing of a URL, whose query may be a key to the image."""
    names = ["https://host/a.jpg?1", "https://host/a.jpg?2", "s3://bucket/a.jpg", "https://host/\ud800.jpg"]
    found = [version(root, name) for name in names]
    assert found == [version(root, name, tmp_path) for name in names]
    assert {(len(one[0]), one[1]) for one in found if one is not None} == {(16, b"")}
    assert len(set(found)) == 4


def test_a_link_has_no_version(root: Path):
    (root / "link.jpg").symlink_to(root / "a.jpg")
    assert version(root, "link.jpg") is None


@pytest.mark.parametrize("seconds", [0.0, 2 * module.SLOW_SECONDS])
def test_files_far_away_are_asked_for_side_by_side(root: Path, monkeypatch: pytest.MonkeyPatch, seconds: float):
    """As on a network folder, whose every answer takes a while; the answers are those of one after the other."""
    for number in range(0, 200, 2):
        (root / f"{number}.jpg").write_bytes(b"%d" % number)
    references = [None, "https://host/a.jpg", *(f"{number}.jpg" for number in range(200))]
    versions = FileVersions(ImagePolicy(roots=(root,)))
    expected = [versions(reference) for reference in references]
    lstat, threads = os.lstat, set[int]()

    def far_away(path: str) -> os.stat_result:
        threads.add(threading.get_ident())
        if seconds:
            time.sleep(seconds)
        return lstat(path)

    monkeypatch.setattr(module.os, "lstat", far_away)
    assert versions.of(references) == expected
    assert sum(file != module.ABSENT for file in expected) == 101
    assert (len(threads) > 1) == (seconds > 0)
    assert versions.of([]) == []


def test_a_file_changed_just_now_may_change_again_unseen(root: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(module, "SETTLED_NS", 3_600_000_000_000)
    assert version(root, "a.jpg") is None
    later = time.time_ns() + 2 * 3_600_000_000_000
    monkeypatch.setattr(module.time, "time_ns", lambda: later)
    assert version(root, "a.jpg") is not None
