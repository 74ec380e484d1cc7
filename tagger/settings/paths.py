"""Paths of tagger.toml start at its folder, those of options at the working directory; "~" is the user's home in both."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field, ValidationInfo, WrapValidator

Text = Annotated[str, Field(min_length=1)]

RESNET18_SUFFIX = ".safetensors"


class OptionPath(str):
    """A path that was given as an option."""

    __slots__ = ()


def is_resnet18(name: str) -> bool:
    """Tell whether a model's name is that of a checkpoint of `tagger train resnet18`, not of a CLIP: a folder or a hub id."""
    return name.endswith(RESNET18_SUFFIX) and not os.path.isdir(name)  # noqa: PTH112  # as pathlib, without a Path


def _resolve(value: Any, check: Callable[[Any], str], info: ValidationInfo) -> str:
    path = os.path.expanduser(check(value))  # noqa: PTH111  # a Path would lose "./", which tells a folder from a hub id
    return path if isinstance(value, OptionPath) else str(_folder(info) / path)


def _resolve_model(value: Any, check: Callable[[Any], str], info: ValidationInfo) -> str:
    name = os.path.expanduser(check(value))  # noqa: PTH111
    if isinstance(value, OptionPath):
        return name
    beside = _folder(info) / name
    return str(beside) if beside.is_dir() or is_resnet18(name) else name


def _folder(info: ValidationInfo) -> Path:
    """Return the folder of tagger.toml; the working directory for settings that are in no file."""
    return Path((info.context or {}).get("folder", ""))


RelativePath = Annotated[Text, WrapValidator(_resolve)]
ModelName = Annotated[Text, WrapValidator(_resolve_model)]
