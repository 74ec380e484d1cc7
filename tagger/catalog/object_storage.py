"""Read and write whole objects on S3, Google Cloud Storage and Azure, through fsspec.

Credentials, endpoints and retries are those of each store's own library (environment, profiles, fsspec's configuration).
What fails is an OSError of one line that repeats no credentials and no query string.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from functools import cached_property
from pathlib import Path
from tempfile import TemporaryDirectory
from types import TracebackType
from typing import Any

from tagger.catalog.manifest_files import ManifestFiles
from tagger.catalog.object_manifest import copy_manifest
from tagger.core.errors import ManifestError, TaggerError, UsageError
from tagger.core.text import first_line
from tagger.core.urls import STORES, is_object_url, scheme_of

CONNECT_SECONDS, READ_SECONDS = 10, 60
UPLOADS = 4  # chunks of one large object that travel, and lie in memory, at once: 50 MB each


def check_url(url: str) -> None:
    """Require a bucket and a path in it. Raises UsageError, which does not repeat what is there: it may be a secret."""
    scheme, path = scheme_of(url), url.partition("://")[2]
    if not re.match(r"[A-Za-z0-9][\w.-]*(/|$)", path) or re.search(r"\?[\w-]+=", path):
        raise UsageError(f"{scheme}://: expected {scheme}://BUCKET/PATH without user, password or query; correct it")


def kind(url: str) -> str | None:
    """Return "file" or "directory" (a prefix of objects), None where nothing is. Raises OSError."""
    with _access(url) as (store, path):
        try:
            return str(store.info(path)["type"])
        except FileNotFoundError:
            return None


def put(file: Path, url: str) -> None:
    """Write an object in one put, which shows it whole or not at all, and compare the size with the store's. Raises OSError."""
    with _access(url) as (store, path):
        store.put_file(str(file), path)
        if (size := store.info(path)["size"]) != file.stat().st_size:
            raise OSError(f"{size} bytes after {file.stat().st_size} were written; did another run write there?")


def list_folder(url: str) -> list[str]:
    """Return the names of the objects directly below `url`; none where there is no such folder. Raises OSError."""
    with _access(url) as (store, path):
        try:
            return [info["name"].rpartition("/")[2] for info in store.ls(path, detail=True) if info["type"] == "file"]
        except FileNotFoundError:
            return []


def get(url: str, names: Sequence[str], folder: Path) -> None:
    """Copy these objects below `url` into `folder`, several at a time. Raises OSError."""
    with _access(url) as (store, path):
        store.get([f"{path}/{name}" for name in names], [str(folder / name) for name in names])


def remove(url: str, names: Sequence[str]) -> None:
    """Remove these objects below `url`. Raises OSError."""
    with _access(url) as (store, path):
        if names:
            store.rm([f"{path}/{name}" for name in names])


class Workspace:
    """Keep local copies of objects in a folder that is made when it is first needed, and removed on leaving.

    So a run reads one state of its manifest, however long it takes and whatever happens to the objects. Errors that pass on
    the way out name the objects instead of the copies. urls: copy -> object, with a lower-case scheme.
    """

    def __init__(self) -> None:
        self._stack = ExitStack()
        self.urls: dict[Path, str] = {}

    def callback(self, function: Callable[[], object]) -> None:
        """Call this at the end of the workspace."""
        self._stack.callback(function)

    @cached_property
    def folder(self) -> Path:
        return Path(self._stack.enter_context(TemporaryDirectory(prefix="tagger-", ignore_cleanup_errors=True)))

    def fetch(self, name: str) -> ManifestFiles:
        """Copy the Parquet objects that `name` means, one, a folder of them, a glob or a Delta table, and return the copies.

        Raises ManifestError where there is none, where they change meanwhile, or where reading them would give deleted rows.
        """
        try:
            with _access(name) as (store, path):
                files, objects = copy_manifest(store, name, path, self.folder / f"{len(self.urls):06d}")
        except OSError as error:
            raise ManifestError(
                f"{name}: expected a Parquet file, a folder of them or a glob, found: {error}; check the path, or run again"
            ) from error
        self.urls |= {copy: f"{scheme_of(name)}://{path}" for copy, path in objects.items()}
        return files

    def local(self, name: str | Path) -> Path:
        """Return the file itself, or a copy of the object. Raises ManifestError."""
        if not is_object_url(name):
            return Path(name)
        copy, *more = self.fetch(str(name)).files
        if more:
            raise ManifestError(f"{name}: expected one file, found {1 + len(more)}; name one")
        return copy

    def __enter__(self) -> Workspace:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._stack.close()
        if isinstance(error, TaggerError):
            for copy, url in self.urls.items():
                error.args = tuple(str(line).replace(str(copy), url) for line in error.args)


@contextmanager
def _access(url: str) -> Iterator[tuple[Any, str]]:
    """Lend the store and the path in it; whatever the store's library raises comes out as an OSError with a clean message."""
    try:
        yield _connect(url)
    except TaggerError:
        raise
    except Exception as error:
        raise OSError(_reason(error)) from error


def _connect(url: str) -> tuple[Any, str]:
    check_url(url)
    scheme, path = scheme_of(url), url.partition("://")[2]
    try:
        import fsspec
        from fsspec.config import apply_config

        kind = fsspec.get_filesystem_class(scheme)
    except ImportError as error:
        raise UsageError(
            f"{scheme}://: expected the library for this store, found none; pip install 'tagger[{STORES[scheme][1]}]'"
        ) from error
    options = {**_options(scheme), **apply_config(kind, {}), "use_listings_cache": False}
    return kind(**options), path.rstrip("/")


def _options(scheme: str) -> dict[str, Any]:
    """Limit the time of a socket, not of a transfer, and the memory; the libraries retry by themselves."""
    if scheme == "s3":
        return {
            "config_kwargs": {"connect_timeout": CONNECT_SECONDS, "read_timeout": READ_SECONDS},
            "max_concurrency": UPLOADS,
        }
    if scheme == "az":
        return {"connection_timeout": CONNECT_SECONDS, "read_timeout": READ_SECONDS, "max_concurrency": UPLOADS}
    from aiohttp import ClientTimeout

    return {"requests_timeout": ClientTimeout(sock_connect=CONNECT_SECONDS, sock_read=READ_SECONDS)}


def _reason(error: Exception) -> str:
    """Return what a store's library says, on one short line, without query strings and passwords."""
    if isinstance(error, FileNotFoundError):
        return "no such bucket or object"
    system = isinstance(error, OSError) and error.strerror  # the message without "[Errno 5]"
    line = first_line(OSError(system) if system else error)
    line = re.sub(r"\?[^\s\"']*", "", re.sub(r"//[^/@\s]*@", "//", line))
    line = "".join(character if character.isprintable() else " " for character in line)[:200].rstrip(" .")
    return f"access denied ({line})" if isinstance(error, PermissionError) else line
