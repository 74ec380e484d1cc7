"""Every form of a path that leads elsewhere is an error row, and nothing but the image root and what lies in it is opened."""

from __future__ import annotations

import os
import stat
import sys
from pathlib import Path

import pytest

from tagger.core.errors import ImageError
from tagger.core.types import ImagePolicy, ImageRef
from tagger.images.sources import read_bytes

# {root}: the image root; {other}: another folder beside it; {there}: the root through a link; each holds 1.jpg.
FORBIDDEN = [
    "../secret",
    "./../secret",
    "shoes/../../secret",
    "shoes/../../images/../secret",
    "../images-2/1.jpg",  # begins like the root
    "..",
    "../",
    "../../../../../../../../../../etc/passwd",
    "shoes/" + "../" * 100 + "etc/passwd",
    "/etc/passwd",
    "//etc/passwd",
    "///etc//passwd",
    "/",
    "{other}/1.jpg",
    "{root}/../secret",
    "{root}-2/1.jpg",
    "{there}/../../secret",
    "link-to-secret",
    "link-to-relative-secret",
    "link-to-link",
    "link-to-folder/1.jpg",
    "link-to-folder/../secret",
    "link-to-root/etc/passwd",
    "link-to-device",
    "link-to-proc/environ",
    "inside/../link-to-secret",
    "fifo",
    "link-to-fifo",
    "socket",
    "/dev/zero",
    "/dev/null",
    "/dev/tty",
    "/dev/stdin",
    "/dev/fd/0",
    "/proc/self/environ",
    "/proc/self/fd/0",
    "/proc/self/root/etc/passwd",
    "/proc/self/cwd/../secret",
    "/proc/1/mem",
    "/sys/kernel/notes",
    "file:///etc/passwd",
    "file://{root}/1.jpg",
    "FILE:///etc/passwd",
    "https://example.com/1.jpg",
    "ftp://example.com/1.jpg",
    "s3://bucket/1.jpg",
    "data://1.jpg",
    "1.jpg\0",
    "\0/etc/passwd",
    "1.jpg\0../secret",
    "\ud800.jpg",  # a surrogate that stands for no byte
]

# Names that another system, a shell or a browser would read as a way out; here they are names, and no file has them.
NAMES = [
    "C:\\Windows\\win.ini",
    "\\\\host\\share\\1.jpg",
    "..\\secret",
    "//?/C:/1.jpg/../secret.jpg".lstrip("/"),
    "~/1.jpg",
    "~root/1.jpg",
    "$HOME/1.jpg",
    "%2e%2e/secret",
    "%2e%2e%2fsecret",
    "..%00/secret",
    "\uff0e\uff0e/secret",  # full-width dots
    "..\u2215secret",  # a slash that is none
    ".\u200b./secret",
    ".. /secret",
    "..\n/secret",
    "1.jpg ",
    "1.jpg\n",
    "1.jpg/",
    "1.jpg/.",
    "1.JPG",
    "file:/etc/passwd",
    "\x1b[31m1.jpg",
    "\udcff.jpg",  # a byte that is no UTF-8
    "link-to-nothing",
    "x/" * 3000,
    "x" * 300,  # too long for the system
    "",
    " ",
]

# What is no file as it is written, and another spelling of what leads elsewhere.
SPELLINGS = [
    "..\\..\\secret",
    "shoes\\..\\..\\secret",
    "\\etc\\passwd",
    "%2Fetc%2Fpasswd",
    "%2e%2e%2f%2e%2e%2fetc%2fpasswd",
    "%2e%2e%5csecret",
    "%5c%5c..%5csecret",
    " ../secret",
    "\ufeff/etc/passwd",
    "/etc/passwd ",
    "/dev/zero\r\n",
    "%2Fdev%2Fzero",
    "link-to-secret ",
    "link-to-folder%2F1.jpg",
    "link-to-folder\\1.jpg",
    "link-to-root\\etc\\passwd",
    "link-to-device\n",
    "link-to-proc%2Fenviron",
    "fifo ",
    "%66ifo",
    "socket\t",
    "1.jpg%00",
    "%00",
    "/..\\secret",
    "/%2e%2e/secret",
]

# Names of folders.
UNREADABLE = [".", "shoes", "shoes/", "link-to-itself"]

_opened: list[tuple[str, int]] = []
_watching = False


def _record(event: str, arguments: tuple[object, ...]) -> None:
    if _watching and event == "open" and isinstance(arguments[0], str):  # else it is about a file that is open
        _opened.append((arguments[0], int(str(arguments[2]))))


sys.addaudithook(_record)  # hooks stay for good; this one looks only when asked


@pytest.fixture
def root(tmp_path: Path) -> Path:
    root, other = tmp_path.resolve() / "images", tmp_path.resolve() / "other"
    for folder in (root / "shoes", other, tmp_path / "images-2"):
        folder.mkdir(parents=True)
    for folder in (root, root / "shoes", other, tmp_path / "images-2"):
        (folder / "1.jpg").write_bytes(b"one" if folder.is_relative_to(root) else b"secret")
    (tmp_path / "secret").write_bytes(b"secret")
    (tmp_path / "there").symlink_to(root)
    links = {
        "inside": "shoes",
        "link-to-secret": tmp_path / "secret",
        "link-to-relative-secret": "../secret",
        "link-to-link": "link-to-secret",
        "link-to-folder": other,
        "link-to-root": "/",
        "link-to-device": "/dev/zero",
        "link-to-proc": "/proc/self",
        "link-to-fifo": "fifo",
        "link-to-itself": "link-to-itself",
        "link-to-nothing": "shoes/2.jpg",
    }
    for name, target in links.items():
        (root / name).symlink_to(target)
    os.mkfifo(root / "fifo")
    os.mknod(root / "socket", stat.S_IFSOCK | 0o600)
    return root


def outcome(name: str, *roots: Path) -> str:
    """The code of the error, or what was read; after a proof that only the roots and what lies in them were opened."""
    global _watching
    _opened.clear()
    _watching = True
    try:
        return read_bytes(ImageRef(0, name), ImagePolicy(roots=roots)).decode()
    except ImageError as error:
        return error.code
    finally:
        _watching = False
        for path, flags in _opened:
            # One name at a time below an open folder, and no link followed: such a step cannot leave it.
            assert flags & os.O_NOFOLLOW
            assert path in map(str, roots) or ("/" not in path and path not in ("..", "fifo", "socket"))


@pytest.mark.parametrize("form", FORBIDDEN, ids=ascii)
def test_a_path_that_leads_elsewhere_is_forbidden_and_nothing_is_opened(form: str, root: Path):
    name = form.format(root=root, other=root.parent / "other", there=root.parent / "there")
    assert outcome(name, root) == "forbidden-path"
    assert [path for path, flags in _opened if not flags & os.O_DIRECTORY] == []


@pytest.mark.parametrize("name", NAMES, ids=lambda name: ascii(name[:20]))
def test_what_is_a_way_out_elsewhere_is_a_name_here(name: str, root: Path):
    assert outcome(name, root) in ("missing", "one")  # a slash or a dot behind a file's name: missing, or the file


@pytest.mark.parametrize("name", SPELLINGS, ids=ascii)
def test_no_other_spelling_leads_elsewhere(name: str, root: Path):
    assert outcome(name, root) in ("missing", "forbidden-path")
    assert [path for path, flags in _opened if not flags & os.O_DIRECTORY] == []


@pytest.mark.parametrize("name", UNREADABLE, ids=lambda name: repr(name[:20]))
def test_what_is_no_file_is_unreadable(name: str, root: Path):
    assert outcome(name, root) == "unreadable"


@pytest.mark.parametrize(
    "form",
    [
        *("1.jpg", "shoes/../1.jpg", "inside/1.jpg", "{root}/1.jpg", "{there}/shoes/1.jpg", "//{root}/1.jpg"),
        *("/1.jpg", "/shoes/..\\1.jpg ", "gone/%2e%2e/1.jpg"),
    ],
)
def test_a_path_that_ends_in_the_root_is_read(form: str, root: Path):
    assert outcome(form.format(root=root, there=root.parent / "there"), root) == "one"


def test_a_path_may_lead_into_a_further_root_also_one_inside_another(root: Path):
    other = root.parent / "other"
    assert outcome(f"{other}/1.jpg", root, other) == "secret"
    assert outcome("../other/1.jpg", root, other) == "secret"
    assert outcome("link-to-folder/1.jpg", root, other) == "secret"
    assert outcome("1.jpg", root / "shoes", root) == "one"
    assert outcome("../1.jpg", root / "shoes", root) == "one"
    assert outcome("../1.jpg", root / "shoes") == "forbidden-path"


@pytest.mark.parametrize("name", ["/dev/zero", "/proc/self/environ", "/sys/kernel/notes", "/dev/fd/0", "proc/self/mem"])
def test_the_whole_disk_as_a_root_is_still_no_way_to_the_system(name: str, root: Path):
    assert outcome(name, Path("/")) == "forbidden-path"
    assert outcome(f"{root}/1.jpg", Path("/")) == "one"


def test_a_device_in_a_root_is_forbidden(root: Path):
    assert outcome("/dev/null", root, Path("/dev")) == "forbidden-path"


def test_a_folder_exchanged_for_a_link_after_the_check_is_not_followed(root: Path, monkeypatch: pytest.MonkeyPatch):
    resolve = os.path.realpath

    def resolve_and_exchange(path: str) -> str:
        found = resolve(path)
        (root / "shoes").rename(root / "old")
        (root / "shoes").symlink_to(root.parent / "other")
        return found

    monkeypatch.setattr(os.path, "realpath", resolve_and_exchange)
    assert outcome("shoes/1.jpg", root) == "missing"
    assert (root / "shoes" / "1.jpg").read_bytes() == b"secret"


@pytest.mark.parametrize("new", ["link", "file", "fifo"])
def test_a_file_exchanged_between_look_and_open_is_not_read(new: str, root: Path, monkeypatch: pytest.MonkeyPatch):
    look = os.stat

    def look_and_exchange(name: str, **options: object) -> os.stat_result:
        found = look(name, **options)
        monkeypatch.setattr(os, "stat", look)
        (root / "1.jpg").rename(root / "old.jpg")
        if new == "link":
            (root / "1.jpg").symlink_to("../secret")
        elif new == "file":
            (root / "shoes" / "1.jpg").rename(root / "1.jpg")
        else:
            os.mkfifo(root / "1.jpg")
        return found

    monkeypatch.setattr(os, "stat", look_and_exchange)
    assert outcome("1.jpg", root) == ("unreadable" if new == "link" else "forbidden-path")


def test_there_are_enough_forms():
    assert len({*FORBIDDEN}) >= 40
