"""What the command line starts before the heavy imports: other processes read the Parquet files of a run meanwhile."""

from __future__ import annotations

from pathlib import Path

from tagger.catalog.sandbox import start_check
from tagger.core.urls import is_object_url


def start_reading(*names: str | None) -> None:
    """Start reading these manifests and results, as far as they are on this machine."""
    for name in names:
        if name is not None and not is_object_url(name):
            start_check(name)


def start_reading_result(name: str | Path | None) -> None:
    """Start reading a result, if there is one by this name."""
    if name is not None and not is_object_url(name) and Path(name).is_file():
        start_check(str(Path(name).absolute()))
