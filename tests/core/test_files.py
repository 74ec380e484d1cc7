"""Small files are replaced whole or stay as they were."""

from __future__ import annotations

from pathlib import Path

import pytest

from tagger.core import files
from tagger.core.files import reason, write_text


def test_small_files_are_replaced_whole(tmp_path: Path):
    path = tmp_path / "summary.json"
    write_text(path, "one")
    write_text(path, "two")
    assert path.read_text() == "two"
    assert [path.name for path in tmp_path.iterdir()] == ["summary.json"]


@pytest.mark.parametrize("error", [OSError("no space left"), KeyboardInterrupt()])
def test_a_write_that_fails_leaves_the_earlier_file_and_nothing_beside_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: BaseException
):
    def fail(path: Path) -> None:
        raise error

    path = tmp_path / "summary.json"
    write_text(path, "one")
    monkeypatch.setattr(files, "flush", fail)
    with pytest.raises(type(error)):
        write_text(path, "two")
    assert path.read_text() == "one"
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
