"""An output that cannot be is refused before any work, in one line, and nothing is left where it was tried."""

from __future__ import annotations

import os
import resource
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tagger.core.errors import StoppedError, UsageError
from tagger.core.files import write_text
from tagger.core.write_check import require_writable, require_writable_folder


@contextmanager
def no_byte_can_be_written() -> Iterator[None]:
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


@pytest.fixture
def place(tmp_path: Path) -> Path:
    (tmp_path / "folder").mkdir()
    (tmp_path / "file").write_text("mine")
    (tmp_path / "nowhere").symlink_to("none")
    os.mkfifo(tmp_path / "pipe")
    return tmp_path


IMPOSSIBLE = {
    "folder": "expected a file in an existing folder, found a folder",
    "none/file": "expected a file in an existing folder, found no folder",
    "file/file": "expected a file in an existing folder, found no folder",
    "pipe": "expected a file, found a device or a pipe",
    "a" * 256: "expected a place that can be written, found: File name too long; choose another",
    "a\0b": "expected a place that can be written, found: embedded null byte; choose another",
}


@pytest.mark.parametrize("overwrite", [False, True])
@pytest.mark.parametrize("name", IMPOSSIBLE)
def test_an_impossible_file_is_refused_and_nothing_is_left(place: Path, name: str, overwrite: bool):
    before = sorted(place.rglob("*"))
    with pytest.raises(UsageError) as raised:
        require_writable(place / name, "--output here", overwrite=overwrite)
    assert str(raised.value).startswith(f"--output here: {IMPOSSIBLE[name]}")
    assert sorted(place.rglob("*")) == before


@pytest.mark.parametrize("name", ["file", "nowhere"])
def test_what_is_there_is_replaced_only_on_request(place: Path, name: str):
    with pytest.raises(UsageError, match="here: expected no file, found one; remove it, or use --overwrite to replace it"):
        require_writable(place / name, "here", overwrite=False)
    require_writable(place / name, "here", overwrite=True)
    assert (place / "file").read_text() == "mine"


def test_the_longest_name_is_a_name(place: Path):
    before = sorted(place.iterdir())
    longest = place / ("ü" * 127)
    require_writable(longest, "here", overwrite=False)
    assert sorted(place.iterdir()) == before
    write_text(longest, "whole")
    assert longest.read_text() == "whole"


def test_a_disk_that_takes_nothing_stops_the_command(place: Path):
    before = sorted(place.rglob("*"))
    with no_byte_can_be_written():
        for check in (
            lambda: require_writable(place / "new", "here", overwrite=False),
            lambda: require_writable_folder(place / "new" / "deep", "here", ["x"], overwrite=False),
        ):
            with pytest.raises(
                StoppedError,
                match=r"^here: expected to write there, found: File too large; nothing was published; free the disk, or",
            ):
                check()
    assert sorted(place.rglob("*")) == before


def test_a_folder_is_tried_with_all_that_it_needs(place: Path):
    before = sorted(place.rglob("*"))
    require_writable_folder(place / "new" / "deep", "here", ["x.json"], overwrite=False)
    with pytest.raises(UsageError, match="here: expected a folder, or nothing, found a file; choose another name"):
        require_writable_folder(place / "file", "here", ["x.json"], overwrite=True)
    for impossible in ("file/deep", "nowhere/deep", "a" * 256):
        with pytest.raises(UsageError, match="here: expected a place that can be written, found: "):
            require_writable_folder(place / impossible, "here", ["x.json"], overwrite=True)
    assert sorted(place.rglob("*")) == before
    (place / "folder" / "x.json").touch()
    with pytest.raises(UsageError, match="here/x.json: expected no file, found one"):
        require_writable_folder(place / "folder", "here", ["y.json", "x.json"], overwrite=False)
    require_writable_folder(place / "folder", "here", ["y.json", "x.json"], overwrite=True)
