"""Small files are written whole or not at all."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest

from tagger.core import files
from tagger.core.files import reason, write_bytes, write_text


def test_two_writers_of_one_file_do_not_share_a_temporary_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    meeting = threading.Barrier(2, timeout=30)
    monkeypatch.setattr(files, "flush", lambda _: meeting.wait())  # both have written, neither has renamed
    failures: list[OSError] = []

    def write(data: bytes) -> None:
        try:
            write_bytes(tmp_path / "file", data)
        except OSError as error:
            failures.append(error)

    contents = [b"first" * 1000, b"second" * 2000]
    writers = [threading.Thread(target=write, args=[content]) for content in contents]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()
    assert failures == []
    assert (tmp_path / "file").read_bytes() in contents
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_an_interrupted_write_leaves_the_file_as_it_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    write_bytes(tmp_path / "file", b"before")

    def interrupt(_: Path) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(files, "flush", interrupt)
    with pytest.raises(KeyboardInterrupt):
        write_bytes(tmp_path / "file", b"after")
    assert (tmp_path / "file").read_bytes() == b"before"
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_small_files_are_replaced_whole(tmp_path: Path):
    path = tmp_path / "summary.json"
    write_text(path, "one")
    write_text(path, "two")
    assert path.read_text() == "two"
    assert [path.name for path in tmp_path.iterdir()] == ["summary.json"]


@pytest.mark.parametrize(
    ("error", "line"),
    [
        (OSError(28, "No space left on device", "/a/b"), "No space left on device: /a/b"),
        (OSError("two\nlines"), "two lines"),
        (ValueError(), "ValueError"),
    ],
)
def test_what_the_system_says_is_one_line(error: Exception, line: str):
    assert reason(error) == line
