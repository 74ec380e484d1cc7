"""Try an output before any work: whether it may be written, and whether it can be."""

from __future__ import annotations

import errno
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from tagger.core.errors import StoppedError, TaggerError, UsageError
from tagger.core.files import reason, removed_on_failure, temporary_of

# What no other disk and no other permission mends: the place itself is impossible.
IMPOSSIBLE = {errno.ENAMETOOLONG, errno.EINVAL, errno.EILSEQ, errno.ELOOP, errno.ENOTDIR, errno.EEXIST}


def require_writable(file: Path, name: str, *, overwrite: bool) -> None:
    """Require that a file can be written here, by writing another beside it, and that none is replaced unasked.

    name: how messages name it. Leaves nothing behind. Raises UsageError where there can be no such file or one is there already,
    StoppedError where the disk or its permissions are in the way.
    """
    with _explained(name):
        if not file.parent.is_dir():
            raise UsageError(f"{name}: expected a file in an existing folder, found no folder {file.parent}; correct it")
        if file.is_dir():
            raise UsageError(f"{name}: expected a file in an existing folder, found a folder; correct it")
        if file.exists() and not file.is_file():
            raise UsageError(f"{name}: expected a file, found a device or a pipe; correct it")
        if _is_there(file) and not overwrite:
            raise UsageError(f"{name}: expected no file, found one; remove it, or use --overwrite to replace it")
        _write_beside(file)


def require_writable_folder(folder: Path, name: str, files: Sequence[str], *, overwrite: bool) -> None:
    """Require that these files can be written into a folder, which need not exist; else as `require_writable`."""
    with _explained(name):
        if folder.exists() and not folder.is_dir():
            raise UsageError(f"{name}: expected a folder, or nothing, found a file; choose another name")
        missing = [path for path in (folder, *folder.parents) if not path.exists()]
        try:
            folder.mkdir(parents=True, exist_ok=True)
            _write_beside(folder / "file")
            for file in files:
                require_writable(folder / file, f"{name}/{file}", overwrite=overwrite)
        finally:
            for path in missing:
                with suppress(OSError):
                    path.rmdir()


def write_error(name: str, error: Exception) -> TaggerError:
    """Return the error for an output that could not be written: UsageError where it never can be, else StoppedError."""
    found = getattr(error, "strerror", None) or reason(error)
    if isinstance(error, OSError) and error.errno not in IMPOSSIBLE:
        return StoppedError(
            f"{name}: expected to write there, found: {found}; nothing was published; free the disk, or correct the permissions, "
            "and run again"
        )
    return UsageError(f"{name}: expected a place that can be written, found: {found}; choose another")


@contextmanager
def _explained(name: str) -> Iterator[None]:
    try:
        yield
    except (OSError, ValueError) as error:  # ValueError: a name with a null character
        raise write_error(name, error) from error


def _is_there(file: Path) -> bool:
    """Tell whether there is anything by this name, be it a link that leads nowhere. Raises OSError for an impossible name."""
    try:
        file.lstat()
    except FileNotFoundError:
        return False
    return True


def _write_beside(file: Path) -> None:
    with removed_on_failure(temporary_of(file)) as temporary:
        temporary.write_bytes(b"\0")
        temporary.unlink()
