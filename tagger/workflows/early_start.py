"""What the command line starts before the heavy imports: other processes read the Parquet files of a run meanwhile."""

from __future__ import annotations

from pathlib import Path

from tagger.catalog import sandbox
from tagger.core.urls import is_object_url


def start_reading(name: str) -> None:
    """Start reading a manifest or a result, if it is on this machine."""
    if not is_object_url(name):
        sandbox.start_reading(name)


def start_reading_result(name: str | Path | None) -> None:
    """Start reading a result, if there is one by this name."""
    if name is not None and not is_object_url(name) and Path(name).is_file():
        sandbox.start_reading(name)
