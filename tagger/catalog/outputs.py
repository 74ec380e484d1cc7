"""Choose where the results go: beside the manifest or to --output, on this machine or on a store; never among the inputs."""

from __future__ import annotations

import os
from collections.abc import Sequence
from glob import has_magic
from pathlib import Path, PurePath, PurePosixPath

from tagger.catalog.manifest import Manifest
from tagger.catalog.manifest_files import fixed_part
from tagger.catalog.object_storage import check_url, kind
from tagger.catalog.remote_results import aside_url
from tagger.catalog.results import REJECTED, aside_of
from tagger.core.errors import StoppedError, UsageError
from tagger.core.urls import is_object_url, with_lower_scheme
from tagger.core.write_check import require_writable


def run_folder(output: Path) -> Path:
    """Return the run folder, beside these results: their parts while they are made, the log, the summary, the metrics."""
    return output.parent / f"{output.stem}.run"


def published_name(result: str | Path) -> str:
    """Return the output that this result, which may be a rejected one, was meant for."""
    name = str(result)
    return f"{name.removesuffix(REJECTED)}.parquet" if name.endswith(REJECTED) else name


def local_output(name: str, output: str | Path | None, in_place: bool) -> Path | None:
    """Return the file that the results would go to by the options alone; None on a store, or where that is not clear."""
    path = Path(name)
    if is_object_url(output or name) or (output is None and not path.exists()):
        return None
    if in_place:
        return path.resolve()
    target = Path(output).absolute() if output else _default_output(path)
    return target if target.name and target.parent.is_dir() else None


def choose_output(
    manifest: Manifest, objects: Sequence[str], output: str | Path | None, overwrite: bool, in_place: bool
) -> Path | str:
    """Return the file, or the URL of the object, that the results go to.

    objects: the URLs of the manifest's files, if it is on a store. Raises UsageError where they must not go there, StoppedError
    where the store cannot be asked.
    """
    name = manifest.name
    if is_object_url(output or name):
        target = None if output is None else with_lower_scheme(str(output))
        return _object(with_lower_scheme(name), objects, target, overwrite, in_place)
    return _file(name, manifest, output, overwrite, in_place)


def _object(name: str, objects: Sequence[str], output: str | None, overwrite: bool, in_place: bool) -> str:
    """Return the object that the results go to."""
    single = list(objects) == [name]
    if in_place:
        if not single:
            raise UsageError(f"--in-place: expected a manifest of one file, found {name}; use --output")
        return name
    if output is None:
        parent, _, last = name.rstrip("/").rpartition("/")
        if parent.endswith("/") or (has_magic(name) and not single):
            raise UsageError(f"--output: expected where to write the results of {name}, found nothing; name a file")
        output = f"{parent}/{PurePosixPath(last).stem if single else last}.tagged.parquet"
    check_url(output)
    parent, _, last = output.rpartition("/")
    if parent.endswith("/") or not last or has_magic(output):
        raise UsageError(f"{output}: expected one object in a bucket; correct --output")
    if output in objects:
        raise UsageError(f"{output}: expected results beside the manifest, found the manifest itself; use --in-place")
    if aside_url(output) in objects:
        raise UsageError(f"{output}: its results go to the manifest {name} if they are rejected; choose another --output")
    written = (PurePosixPath(output), PurePosixPath(aside_url(output)))
    if not single and _lie_in(written, PurePosixPath(name)):
        raise UsageError(f"{output}: lies in the manifest {name} and would be read as input next time; choose another folder")
    try:
        found = kind(output)
    except OSError as error:
        raise StoppedError(f"{output}: expected a store that can be written, found: {error}; correct it and run again") from error
    if found == "directory":
        raise UsageError(f"{output}: expected a file, found a folder; correct --output")
    if found is not None and not overwrite:
        raise UsageError(f"{output}: expected no file, found results; use --overwrite to replace them")
    return output


def _file(name: str, manifest: Manifest, output: str | Path | None, overwrite: bool, in_place: bool) -> Path:
    """Return the file that the results go to."""
    path = Path(name)
    inputs = {file.resolve() for file in manifest.files}
    if in_place:
        if not path.is_file():
            raise UsageError(f"--in-place: expected a manifest of one file, found {name}; use --output")
        return _writable(path.resolve(), name, overwrite=True)
    if output is None:
        if not path.exists():
            raise UsageError(f"--output: expected where to write the results of {name}, found nothing; name a file")
        output = _default_output(path)
    target = Path(output).absolute()
    aside = aside_of(target)
    if target.resolve() in inputs:
        raise UsageError(f"{output}: expected results beside the manifest, found the manifest itself; use --in-place")
    if aside.resolve() in inputs:
        raise UsageError(f"{output}: its results go to the manifest {name} if they are rejected; choose another --output")
    in_folder = path.is_dir() and _lie_in((target.resolve(),), path.resolve())
    if in_folder or (not path.is_file() and _lie_in((target, aside), _absolute(path))):
        raise UsageError(f"{output}: lies in the manifest {name} and would be read as input next time; choose another folder")
    return _writable(target, str(output), overwrite)


def _writable(target: Path, name: str, overwrite: bool) -> Path:
    """Return the target if it can be written, and results that are rejected beside it."""
    require_writable(target, name, overwrite=overwrite)
    require_writable(aside_of(target), str(aside_of(target)), overwrite=True)
    return target


def _lie_in(written: Sequence[PurePath], manifest: PurePath) -> bool:
    """Tell whether one of these files would lie in the manifest, a folder with its sub-folders or a glob."""
    folder = fixed_part(str(manifest)) if "**" in manifest.parts else str(manifest)
    return any(
        path.is_relative_to(folder) or any(part.match(str(manifest)) for part in (path, *path.parents)) for path in written
    )


def _default_output(manifest: Path) -> Path:
    whole = _absolute(manifest)
    return whole.with_name(f"{whole.stem if manifest.is_file() else whole.name}.tagged.parquet")


def _absolute(path: Path) -> Path:
    return Path(os.path.abspath(path))  # noqa: PTH100  # "." has no name, and resolve() would follow a link
