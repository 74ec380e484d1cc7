"""`tagger init`: a settings file to start from."""

from __future__ import annotations

from pathlib import Path

import click

from tagger.cli import options


@click.command()
@click.argument("folder", type=click.Path(exists=True, file_okay=False, path_type=Path), default=".")
@options.overwrite
def init(folder: Path, overwrite: bool) -> None:
    """Write a commented tagger.toml into FOLDER (default: here).

    \b
    Example:
      tagger init catalogue
    """
    from tagger.settings.template import write_starter

    click.echo(write_starter(folder, overwrite))
