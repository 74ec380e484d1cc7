"""References -> bytes, and every way in which there are none."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tagger.core.errors import ImageError
from tagger.core.types import ImagePolicy, ImageRef
from tagger.images import sources
from tagger.images.sources import read_bytes


@pytest.fixture
def root(tmp_path: Path) -> Path:
    root = tmp_path / "images"
    (root / "shoes").mkdir(parents=True)
    (root / "shoes" / "1.jpg").write_bytes(b"one")
    (root / "empty.jpg").touch()
    (root / "inside.jpg").symlink_to(root / "shoes" / "1.jpg")
    (root / "outside.jpg").symlink_to(tmp_path / "secret")
    (root / "loop.jpg").symlink_to(root / "loop.jpg")
    (tmp_path / "secret").write_bytes(b"secret")
    os.mkfifo(root / "fifo.jpg")
    return root


@pytest.mark.parametrize("path", ["shoes/1.jpg", "./shoes/../shoes/1.jpg", "inside.jpg"])
def test_a_file_under_the_root_is_read(root: Path, path: str):
    assert read_bytes(ImageRef(0, path), ImagePolicy(roots=(root.resolve(),))) == b"one"


def test_an_absolute_path_under_the_root_is_read(root: Path):
    assert read_bytes(ImageRef(0, str(root / "shoes" / "1.jpg")), ImagePolicy(roots=(root.resolve(),))) == b"one"


def test_embedded_bytes_come_before_the_path(root: Path):
    assert read_bytes(ImageRef(0, "no-such.jpg", b"embedded"), ImagePolicy(roots=(root.resolve(),))) == b"embedded"


@pytest.mark.parametrize(
    ("path", "code"),
    [
        ("no-such.jpg", "missing"),
        ("shoes/1.jpg/2.jpg", "missing"),
        (None, "missing"),
        ("", "missing"),
        ("\u00a0\n", "missing"),
        ("shoes", "unreadable"),
        ("fifo.jpg", "forbidden-path"),
        ("loop.jpg", "unreadable"),
        ("x" * 5000, "missing"),
        ("empty.jpg", "not-an-image"),
        ("../secret", "forbidden-path"),
        ("outside.jpg", "forbidden-path"),
        ("/etc/passwd", "forbidden-path"),
        ("/dev/zero", "forbidden-path"),
        ("file:///etc/passwd", "forbidden-path"),
        ("https://example.com/1.jpg", "forbidden-path"),
        ("shoes/1.jpg\0.png", "forbidden-path"),
    ],
)
def test_what_cannot_be_read_has_a_code(root: Path, path: str | None, code: str):
    with pytest.raises(ImageError) as caught:
        read_bytes(ImageRef(0, path), ImagePolicy(roots=(root.resolve(),)))
    assert caught.value.code == code


def test_the_size_limit_holds_for_files_and_for_embedded_bytes(root: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(sources, "MAX_FILE_BYTES", 2)
    for ref in (ImageRef(0, "shoes/1.jpg"), ImageRef(0, data=b"one")):
        with pytest.raises(ImageError, match="at most 2 are read") as caught:
            read_bytes(ref, ImagePolicy(roots=(root.resolve(),)))
        assert caught.value.code == "too-large"
