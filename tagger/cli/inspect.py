"""`tagger inspect`: what a run would find and take."""

from __future__ import annotations

import logging
from typing import Any

import click

from tagger.catalog.sandbox import start_reading
from tagger.cli.console import log_to_stderr
from tagger.cli.options import of_a_job
from tagger.core.urls import is_object_url


@click.command()
@click.argument("manifest")
@of_a_job
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def inspect(manifest: str, as_json: bool, **options: Any) -> None:  # tagger.inspect's, by the same names
    """Look at MANIFEST before the night: columns, images, labels, and what `tagger run` with the same options would take.

    Reads the manifest and a few images drawn evenly, writes nothing, loads no model and asks no hub. What would end the run
    is one line and its exit code: 65 for the manifest, 69 for the model, 78 for the settings.

    \b
    Example:
      tagger inspect manifest.parquet --model ./clip
    """
    log_to_stderr(logging.INFO)
    if not is_object_url(manifest):
        start_reading(manifest)
    import tagger

    found = tagger.inspect(manifest, **options)
    click.echo(found.to_json() if as_json else found.to_text())
