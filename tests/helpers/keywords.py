"""Options of a test by their names alone, sorted into what the library takes."""

from __future__ import annotations

from dataclasses import fields
from typing import Any

from tagger import Machine, Output, Study


def keywords(**options: Any) -> dict[str, Any]:
    """Return keywords of `tagger.run`: `output` (its path) and the like in an Output, `workers` and the like in a Machine.

    A run writes no report unless it is asked for: most tests are not about it, and drawing takes a second.
    """
    options = {"report": False, **options}
    if "output" in options:
        options["path"] = options.pop("output")
    return {**_bundle("output", Output, options), **_bundle("machine", Machine, options), **options}


def machine_keywords(**options: Any) -> dict[str, Any]:
    """Return keywords of what has no Output: `workers` and the like in a Machine."""
    return {**_bundle("machine", Machine, options), **options}


def study_keywords(**options: Any) -> dict[str, Any]:
    """Return keywords of `tagger.compare`: `shots` and the like in a Study."""
    return {**_bundle("study", Study, options), **_bundle("machine", Machine, options), **options}


def _bundle(name: str, kind: type, options: dict[str, Any]) -> dict[str, Any]:
    found = {field.name: options.pop(field.name) for field in fields(kind) if field.name in options}
    return {name: kind(**found)} if found else {}
