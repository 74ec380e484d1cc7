"""`tagger inspect`: what a run would find and take."""

from __future__ import annotations

import logging
from typing import Any

import click

from tagger.cli import options
from tagger.cli.console import log_to_stderr
from tagger.cli.options import manifest_options, take_machine, take_overrides


@click.command()
@click.argument("manifest")
@manifest_options
@options.max_errors
@options.as_json
def inspect(manifest: str, as_json: bool, **options: Any) -> None:  # those of settings/options.py, by the same names
    """Look at MANIFEST before the night: columns, images, labels, and what `tagger run` with the same options would take.

    Reads the manifest and a few images drawn evenly, writes nothing, loads no model and asks no hub. What would end the run
    is one line and its exit code: 65 for the manifest, 69 for the model, 78 for the settings.

    \b
    Example:
      tagger inspect manifest.parquet --model ./clip
    """
    log_to_stderr(logging.INFO)
    from tagger.workflows.early_start import start_reading

    start_reading(manifest)
    from tagger.workflows.inspect import inspect

    found = inspect(manifest, options.pop("config"), machine=take_machine(options), **take_overrides(options))
    click.echo(found.to_json() if as_json else found.to_text())
