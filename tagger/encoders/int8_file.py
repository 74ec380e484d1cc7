"""An int8 model as one file, named after all that it follows from: every run and machine that has the file need not make it."""

from __future__ import annotations

import hashlib
import logging
from importlib.metadata import version
from pathlib import Path
from typing import NamedTuple

import torch

from tagger.core.files import write_bytes
from tagger.encoders.clip_files import INT8

log = logging.getLogger(__name__)


class Int8Model(NamedTuple):
    """Hold the content of OpenVINO's two files."""

    description: bytes
    weights: bytes


def int8_file(folder: Path, fingerprint: str, shape: tuple[int, ...]) -> Path:
    """Return where a folder, a checkpoint's or the cache's, has the int8 model of a tower, by its fingerprint and input shape."""
    made_by = f"{version('openvino')} {shape} nncf {version('nncf')} vnni {torch.cpu._is_vnni_supported()}"
    return folder / INT8 / hashlib.sha256(f"{fingerprint} {made_by}".encode()).hexdigest()


def read_int8(file: Path, remedy: str = "it is made anew") -> Int8Model | None:
    """Return what `write_int8` wrote, None if it is not there or damaged; `remedy` ends the warning about a damaged one."""
    try:
        content = file.read_bytes()
    except FileNotFoundError:
        return None
    except OSError as error:
        log.warning("%s: expected a quantised model, found: %s; %s", file, error.strerror, remedy)
        return None
    seal, size, both = content[:32], int.from_bytes(content[32:40], "little"), content[40:]
    if hashlib.sha256(content[32:]).digest() != seal:
        log.warning("%s: expected a quantised model, found a damaged one; %s", file, remedy)
        return None
    return Int8Model(both[:size], both[size:])


def write_int8(file: Path, model: Int8Model) -> None:
    """Write a model, sealed, whole or not at all, into a folder that is there. Raises OSError."""
    content = len(model.description).to_bytes(8, "little") + model.description + model.weights
    write_bytes(file, hashlib.sha256(content).digest() + content)
