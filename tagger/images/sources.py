"""From a reference to encoded bytes, inside the image root; remote ones by remote.py, whose codes are added.

Codes: missing (null, or no such file), forbidden-path (leads out of the image root), unreadable (not a regular file, no
permission, a failing disk), too-large (more than MAX_FILE_BYTES), not-an-image (nothing in it).
"""

from __future__ import annotations

import os
import stat
from collections.abc import Sequence
from pathlib import Path

from tagger.errors import ImageError
from tagger.images.remote import fetch, is_remote
from tagger.types import ImagePolicy, ImageRef

MAX_FILE_BYTES = 128 << 20


def read_bytes(ref: ImageRef, policy: ImagePolicy) -> bytes:
    """The encoded image. Raises ImageError."""
    if ref.data is not None:
        if len(ref.data) > MAX_FILE_BYTES:
            raise _too_large(len(ref.data))
        data = ref.data
    elif ref.path is None:
        raise ImageError("missing", "the manifest has no image here")
    elif is_remote(ref.path):
        data = fetch(ref.path, policy, MAX_FILE_BYTES)
    else:
        data = _read_file(ref.path, policy.roots)
    if not data:
        raise ImageError("not-an-image", f"{ref.path or 'embedded image'} is empty")
    return data


def _read_file(name: str, roots: Sequence[Path]) -> bytes:
    if "://" in name:  # not repeated: it may hold a password
        raise ImageError("forbidden-path", "expected a local path, https://, s3://, gs:// or az://, found another scheme")
    if "\0" in name:
        raise ImageError("forbidden-path", f"{name!r} is not a local path")
    if not roots:
        raise ImageError("forbidden-path", f"{name} is a path on this machine, where the run has no image root")
    # realpath follows symlinks, so neither ".." nor a link leads out of the roots.
    path = os.path.realpath(roots[0] / name)
    if not any(Path(path).is_relative_to(root) for root in roots):
        raise ImageError("forbidden-path", f"{name} leads out of the image root")
    try:
        # Non-blocking: opening a FIFO that nobody writes to would wait for ever.
        handle = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        with os.fdopen(handle, "rb") as file:
            found = os.fstat(handle)
            if not stat.S_ISREG(found.st_mode):
                raise ImageError("unreadable", f"{name} is not a regular file")
            if found.st_size > MAX_FILE_BYTES:
                raise _too_large(found.st_size)
            return file.read()
    except (FileNotFoundError, NotADirectoryError) as error:
        raise ImageError("missing", f"no file {name}") from error
    except OSError as error:
        raise ImageError("unreadable", f"{name}: {error.strerror}") from error


def _too_large(size: int) -> ImageError:
    return ImageError("too-large", f"{size:,} bytes; at most {MAX_FILE_BYTES:,} are read")
