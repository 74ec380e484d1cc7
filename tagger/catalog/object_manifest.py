"""Copy the objects that a manifest's URL means, by the rules of manifest_files.py: a file, a folder, a glob or a Delta table."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from glob import has_magic
from pathlib import Path, PurePosixPath
from typing import Any

from tagger.catalog.manifest_files import ManifestFiles, choose_names, fixed_part, partition_root
from tagger.catalog.partitions import hive_partitions, is_partition
from tagger.catalog.tables import read_delta, read_delta_names, require_no_table, table_format

State = tuple[int, str]  # size and ETag


def copy_manifest(store: Any, name: str, path: str, folder: Path) -> tuple[ManifestFiles, dict[Path, str]]:
    """Copy what the manifest `name` means, which is at `path` on the store; return the copies, and the object of each.

    folder: a new one; reading it as a manifest gives the same rows in the same order. Raises ManifestError, whatever the store's
    library raises, and OSError where the objects change meanwhile.
    """

    def names_in(parent: str) -> list[str]:
        try:
            return [str(one).rstrip("/").rpartition("/")[2] for one in store.ls(parent, detail=False)]
        except (FileNotFoundError, NotADirectoryError, PermissionError):
            return []  # a bucket's other folders may be closed to us

    base, states = _find(store, path)
    above = [parent for parent in PurePosixPath(path).parents if str(parent) != "."]
    table = PurePosixPath(path)
    if base == path and table_format(table, names_in) == "Delta":
        require_no_table(name, above, names_in)
        log = {one: folder / one for one in states if one.startswith("_delta_log/") and ".." not in PurePosixPath(one).parts}
        _copy(store, base, log)
        copies = {one: folder / one for one in read_delta_names(name, folder)[0]}
        _copy(store, base, copies)
        _require_unchanged(store, path, states, (*log, *copies))
        found = ManifestFiles(folder, *read_delta(folder))
    else:
        single = list(states) == [""]
        chosen, left_out = ([""], []) if single else choose_names(name, states, from_glob=base != path)
        parents = {parent for one in chosen for parent in PurePosixPath(base, one).parents if not is_partition(parent.name)}
        require_no_table(name, sorted({*parents, *above} - {PurePosixPath(".")}, reverse=True), names_in)
        copies = {one: folder / _local_name(number, one) for number, one in enumerate(chosen)}
        _copy(store, base, copies)
        _require_unchanged(store, path, states, chosen)
        root = partition_root(Path(base))
        keys = [] if single else [PurePosixPath(base, one).relative_to(root).as_posix() for one in chosen]
        found = ManifestFiles(folder, tuple(copies.values()), hive_partitions(name, keys), left_out)
    return found, {copy: _join(base, one) for one, copy in copies.items()}


def _find(store: Any, path: str) -> tuple[str, dict[str, State]]:
    """Return the folder of what `path` means, and the state of each object by its name in there, "" for the path itself."""
    try:
        found = store.info(path)
        if found["type"] == "file":
            return path, {"": _state(found)}
        base, infos = path, list(store.find(path, detail=True).values())
    except FileNotFoundError:
        if not has_magic(path):
            raise
        base = fixed_part(path)
        matches = list(store.glob(path, detail=True).values())
        infos = [info for info in matches if info["type"] == "file"]
        if "**" not in path.split("/"):
            for match in matches:
                infos += store.find(match["name"], detail=True).values() if match["type"] == "directory" else ()
    files = {info["name"]: _state(info) for info in infos if info["type"] == "file" and not info["name"].endswith("/")}
    if not files:
        raise FileNotFoundError
    return base, {file.removeprefix(f"{base}/"): state for file, state in sorted(files.items())}


def _state(info: Mapping[str, Any]) -> State:
    return info["size"], str(info.get("ETag") or info.get("etag"))


def _require_unchanged(store: Any, path: str, states: Mapping[str, State], names: Iterable[str]) -> None:
    """Require the objects with these names to be as they were, and no other ones to have come. Raises OSError."""
    now = _find(store, path)[1]
    if now.keys() != states.keys() or any(now[name] != states[name] for name in names):
        raise OSError("objects that changed while they were copied")


def _copy(store: Any, base: str, copies: Mapping[str, Path]) -> None:
    for copy in copies.values():
        copy.parent.mkdir(parents=True, exist_ok=True)
    store.get([_join(base, name) for name in copies], [str(copy) for copy in copies.values()])


def _join(base: str, name: str) -> str:
    return f"{base}/{name}" if name else base


def _local_name(number: int, name: str) -> Path:
    """Return a name for the copy that keeps order and partitions, and nothing else of what strangers named the object."""
    partitions = [part for part in PurePosixPath(name).parts[:-1] if is_partition(part)]
    return Path(f"{number:06d}", *partitions, f"{number:06d}.parquet")
