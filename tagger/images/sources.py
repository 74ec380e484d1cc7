"""From a reference to encoded bytes, inside the image root; remote ones by fetch.py, whose codes are added.

Codes: missing (null, blank, or no such file), forbidden-path (leads out of the image root, or to a device, FIFO or socket;
never opened), unreadable (a folder, no permission, a failing disk), too-large (more than MAX_FILE_BYTES), not-an-image (nothing
in it).
"""

from __future__ import annotations

import os
import stat
from collections.abc import Sequence
from itertools import chain
from pathlib import Path
from typing import BinaryIO

from tagger.core.errors import ImageError
from tagger.core.text import trim
from tagger.core.types import ImagePolicy, ImageRef
from tagger.core.urls import is_remote_image
from tagger.images.fetch import fetch
from tagger.images.spellings import NO_SUCH_FILE, explain, shown, spellings

MAX_FILE_BYTES = 128 << 20
SYSTEM_FOLDERS = ("/dev/", "/proc/", "/sys/")  # where opening a file may do something
FOLDER = getattr(os, "O_PATH", os.O_RDONLY) | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


def read_bytes(ref: ImageRef, policy: ImagePolicy) -> bytes:
    """Return the encoded image. Raises ImageError."""
    if ref.data is not None:
        if len(ref.data) > MAX_FILE_BYTES:
            raise _too_large(len(ref.data))
        data = ref.data
    elif ref.path is None or not trim(ref.path):
        raise ImageError("missing", "the manifest has no image here")
    elif is_remote_image(ref.path):
        data = fetch(ref.path, policy, MAX_FILE_BYTES)[0] or b""
    else:
        data = _read_file(ref.path, policy.roots)
    if not data:
        raise ImageError("not-an-image", f"{ref.path or 'embedded image'} is empty")
    return data


def _read_file(reference: str, roots: Sequence[Path]) -> bytes:
    """Read the file of this very name, or where there is none, the first that another spelling leads to."""
    if "://" in reference:
        raise ImageError("forbidden-path", explain(reference))
    if not roots:
        raise ImageError("forbidden-path", f"{shown(reference)} is a path on this machine, where the run has no image root")
    first: ImageError | None = None
    for name in chain([reference], spellings(reference)):
        try:
            return _read_path(name, roots)
        except ImageError as error:
            first = first or error
            outside = name.startswith("/") and not name.startswith(tuple(f"{root}/" for root in roots))
            if error.code == "missing" or (error.code == "forbidden-path" and outside):
                continue  # a leading slash may mean the image root
            if error.code == "forbidden-path":
                break
            raise
    assert first is not None
    what = explain(reference)
    raise ImageError(first.code, f"{first.message}; {what}" if what else first.message) from first.__cause__


def _read_path(name: str, roots: Sequence[Path]) -> bytes:
    if "\0" in name:
        raise ImageError("forbidden-path", "expected a path, found a NUL byte")
    try:
        # realpath follows symlinks, so neither ".." nor a link leads out of the roots.
        path = os.path.realpath(os.path.join(roots[0], name))  # noqa: PTH118  # a Path costs more than the system calls
        root = next((root for root in map(str, roots) if _lies_under(path, root)), None)
        if root is None:
            raise ImageError(
                "forbidden-path", f"{shown(name)} leads out of the image root, and into no folder of [images] allow_roots"
            )
        with _open_below(root, path, name) as file:
            size = os.fstat(file.fileno()).st_size
            if size > MAX_FILE_BYTES:
                raise _too_large(size)
            return file.read(size)
    except OSError as error:
        if error.errno in NO_SUCH_FILE:
            place = "" if name.startswith("/") else f" in the image root {roots[0]}"
            raise ImageError("missing", f"no file {shown(name)}{place}") from error
        raise ImageError("unreadable", f"{shown(name)}: {error.strerror}") from error
    except UnicodeEncodeError as error:
        raise ImageError("forbidden-path", f"{name} is not text that a path can have") from error


def _lies_under(path: str, root: str) -> bool:
    """Return whether a resolved path is in a resolved folder; SYSTEM_FOLDERS are in no folder above them."""
    if root == "/":
        return not path.startswith(SYSTEM_FOLDERS)
    return path.startswith(root + "/") or path == root


def _open_below(root: str, path: str, name: str) -> BinaryIO:
    """Open a regular file and nothing else, from the root downwards, following no link.

    A folder that was exchanged for a link after the path was resolved is not followed, wherever it leads; devices, FIFOs and
    sockets are not opened, because opening alone may block or do something.
    """
    *folders, last = (path[len(root) :].strip("/") or ".").split("/")
    folder = os.open(root, FOLDER)
    try:
        for step in folders:
            parent, folder = folder, os.open(step, FOLDER, dir_fd=folder)
            os.close(parent)
        found = os.stat(last, dir_fd=folder, follow_symlinks=False)
        if not stat.S_ISREG(found.st_mode):
            harmless = stat.S_ISDIR(found.st_mode) or stat.S_ISLNK(found.st_mode)  # a link here is one that leads in a circle
            raise ImageError("unreadable" if harmless else "forbidden-path", f"{shown(name)} is not a regular file")
        # Should it be a FIFO by now, opening does not wait for its writer.
        file = os.open(last, os.O_RDONLY | os.O_NONBLOCK | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=folder)
    finally:
        os.close(folder)
    if not os.path.samestat(os.fstat(file), found):
        os.close(file)
        raise ImageError("forbidden-path", f"{shown(name)} was exchanged while it was opened")
    return os.fdopen(file, "rb")


def _too_large(size: int) -> ImageError:
    return ImageError("too-large", f"{size:,} bytes; at most {MAX_FILE_BYTES:,} are read")
