"""What a pinned copy of a checkpoint says of itself: where it is from, and what each of its files was. Imports nothing heavy."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, ValidationError

from tagger.core.errors import ModelError
from tagger.core.frozen import Frozen

NAME = "tagger-model.json"  # written last: where it is, the copy is complete
READ = (".json", ".txt", ".jinja", ".safetensors")  # suffixes of what may be read with a checkpoint (checkpoint.py)

FileName = Annotated[str, Field(pattern=r"^[A-Za-z0-9_][A-Za-z0-9_.-]*$")]  # of the folder itself


class PinnedFile(Frozen):
    """size: bytes. sha256: of its content."""

    size: int
    sha256: str


class Pinned(Frozen):
    """repository, commit: on the hub. files: all that the copy consists of."""

    schema_version: Literal[1] = 1
    repository: str
    commit: str
    files: dict[FileName, PinnedFile]


def read_pinned(folder: Path) -> Pinned | None:
    """What the folder says of itself, None if it is no pinned copy. ModelError if it says nothing that can be understood."""
    try:
        return Pinned.model_validate_json((folder / NAME).read_bytes())
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        raise ModelError(
            f"{folder / NAME}: expected a readable file, found: {error.strerror}; correct its permissions"
        ) from error
    except ValidationError as error:
        problem = error.errors()[0]
        where = ".".join(map(str, problem["loc"]))
        raise ModelError(
            f"{folder / NAME}: expected what `tagger models pull` writes, found {where}: {problem['msg']}; remove that file and "
            "pull again"
        ) from error


def commit_of(name: str) -> str | None:
    """The commit that a model's folder was pulled from, None if it is no pinned copy, or says so no more."""
    try:
        pinned = read_pinned(Path(name)) if Path(name).is_dir() else None
    except ModelError:
        return None  # whether it can be loaded, the rest of the folder decides
    return pinned.commit if pinned else None


def problems(folder: Path, pinned: Pinned) -> list[str]:
    """What is not as it was pulled, every byte read: one text a file, expected and found."""
    found = []
    for name, file in pinned.files.items():
        path = folder / name
        try:
            size = path.stat().st_size
            if size != file.size:
                found.append(f"{name}: expected {file.size:,} bytes, found {size:,}")
            elif (digest := sha256(path)) != file.sha256:
                found.append(f"{name}: expected SHA-256 {file.sha256}, found {digest}")
        except OSError as error:
            found.append(f"{name}: expected a readable file, found: {error.strerror}")
    strangers = {path.name for path in folder.iterdir() if path.suffix in READ} - {*pinned.files, NAME}
    return found + [f"{name}: expected no such file, which a run might read, found one" for name in sorted(strangers)]


def sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
