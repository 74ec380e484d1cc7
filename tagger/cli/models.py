"""`tagger models`: pinned copies of checkpoints."""

from __future__ import annotations

import logging
from pathlib import Path

import click

from tagger.cli.console import log_to_stderr
from tagger.core.text import printable


@click.group()
def models() -> None:
    """Keep a checkpoint of the hub in a folder, for machines that see no hub at night.

    \b
    Example:
      tagger models pull openai/clip-vit-large-patch14 --to clip
    """


@models.command()
@click.argument("name")
@click.option("--revision", default="main", show_default=True, help="Branch, tag or commit.")
@click.option("--to", "folder", required=True, type=click.Path(path_type=Path), help="The folder; it holds nothing else.")
def pull(name: str, revision: str, folder: Path) -> None:
    """Copy the checkpoint NAME of the hub to a folder, every file checked; again, to continue or to repair the copy.

    Only safetensors, and what a CLIP needs beside them. Prints the folder, whose tagger-model.json names the commit.

    \b
    Examples:
      tagger models pull openai/clip-vit-large-patch14 --to clip
      tagger run manifest.parquet --model ./clip
    """
    log_to_stderr(logging.INFO)
    from tagger.encoders import hub

    pinned = hub.pull(name, folder, revision)
    click.echo(_describe(pinned.repository, pinned.commit, sum(file.size for file in pinned.files.values())), err=True)
    click.echo(printable(str(folder)))


@models.command()
@click.argument("folder", type=click.Path(path_type=Path))
def verify(folder: Path) -> None:
    """Read the copy in FOLDER whole, and compare it with what was pulled; needs no hub.

    \b
    Example:
      tagger models verify clip
    """
    from tagger.encoders import hub

    pinned = hub.verify(folder)
    click.echo(_describe(pinned.repository, pinned.commit, sum(file.size for file in pinned.files.values())))


def _describe(repository: str, commit: str, size: int) -> str:
    return printable(f"{repository} at {commit}: whole, {size / 1e6:,.1f} MB")
