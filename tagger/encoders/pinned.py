"""The description that a pinned copy of a checkpoint carries: where it is from, and each of its files. Imports nothing heavy."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, ValidationError

from tagger.core.errors import ModelError
from tagger.core.frozen import Frozen
from tagger.encoders.clip_files import readable_files

PIN_FILE = "tagger-model.json"  # written last: where it exists, the copy is complete

FileName = Annotated[str, Field(pattern=r"^[A-Za-z0-9_][A-Za-z0-9_.-]*$")]  # of the folder itself


class PinnedFile(Frozen):
    """Describe one file: `size` in bytes, and the SHA-256 of its content."""

    size: int
    sha256: str


class Pinned(Frozen):
    """Describe a copy: the repository, the commit and the licence on the hub, and every file that it consists of, by name."""

    schema_version: Literal[1] = 1
    repository: str
    commit: str
    licence: str | None = None
    files: dict[FileName, PinnedFile]


def read_pinned(folder: Path) -> Pinned | None:
    """Return the description in a folder, None if it is no pinned copy. ModelError for a description that cannot be read."""
    try:
        return Pinned.model_validate_json((folder / PIN_FILE).read_bytes())
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        raise ModelError(
            f"{folder / PIN_FILE}: expected a readable file, found: {error.strerror}; correct its permissions"
        ) from error
    except ValidationError as error:
        problem = error.errors()[0]
        where = ".".join(map(str, problem["loc"]))
        raise ModelError(
            f"{folder / PIN_FILE}: expected what `tagger models pull` writes, found {where}: {problem['msg']}; remove that file "
            "and pull again"
        ) from error


def commit_of(name: str) -> str | None:
    """Return the commit that a model's folder was pulled from, None if it is no pinned copy or its description is damaged."""
    try:
        pinned = read_pinned(Path(name)) if Path(name).is_dir() else None
    except ModelError:
        return None  # loading the model will tell whether the rest of the folder is good
    return pinned.commit if pinned else None


def find_problems(folder: Path, pinned: Pinned) -> list[str]:
    """Read every byte and describe what is not as it was pulled: for each such file what was expected, found, and helps."""
    problems = []
    for name, file in pinned.files.items():
        path = folder / name
        try:
            size = path.stat().st_size
            if size != file.size:
                problems.append(f"{name}: expected {file.size:,} bytes, found {size:,}; pull it again")
            elif (digest := sha256(path)) != file.sha256:
                problems.append(f"{name}: expected SHA-256 {file.sha256}, found {digest}; pull it again")
        except OSError as error:
            problems.append(f"{name}: expected a readable file, found: {error.strerror}; pull it again")
    for path in readable_files(folder):
        name = path.relative_to(folder).as_posix()
        if name not in pinned.files and name != PIN_FILE:
            problems.append(f"{name}: expected no such file, which a run might read, found one; remove it")
    return problems


def sha256(path: Path) -> str:
    """Return the SHA-256 of a file's content, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
