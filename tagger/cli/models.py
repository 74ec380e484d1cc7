"""`tagger models`: pinned copies of checkpoints, and int8 models of them."""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import Any

import click

from tagger.cli import options
from tagger.cli.console import log_to_stderr
from tagger.cli.options import take_overrides
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
@click.option("--quantise", "manifest", metavar="MANIFEST", help="Then do as `tagger models quantise` does, with its images.")
def pull(name: str, revision: str, folder: Path, manifest: str | None) -> None:
    """Copy the checkpoint NAME of the hub to a folder, every file checked; again, to continue or to repair the copy.

    Only safetensors, and what a CLIP needs beside them. Prints the folder, whose tagger-model.json names the commit.

    \b
    Examples:
      tagger models pull openai/clip-vit-large-patch14 --to clip
      tagger run manifest.parquet --model ./clip
      tagger models pull openai/clip-vit-base-patch32 --to clip --quantise manifest.parquet
    """
    log_to_stderr(logging.INFO)
    from tagger.workflows.models import pull

    pinned = pull(name, folder, revision, manifest)
    click.echo(_describe(pinned.repository, pinned.commit, sum(file.size for file in pinned.files.values())), err=True)
    click.echo(printable(str(folder)))


@models.command("list")
@options.as_json
def list_models(as_json: bool) -> None:
    """List models of the hub that tagger reads: size, languages, licence, and the quality that their makers published.

    \b
    Example:
      tagger models list
    """
    from tagger.encoders.known_models import KNOWN

    if as_json:
        click.echo(json.dumps([model._asdict() for model in KNOWN], indent=2))
        return
    from tagger.core.tables import plain_table

    heads = ["model", "languages", "licence", "published", "source", "extra", "millions", "embedding", "pixels"]
    rows = [
        (
            *(one.name, one.languages, one.licence, one.quality, one.source, one.extra),
            *map(str, (one.parameters, one.embedding, one.side)),
        )
        for one in KNOWN
    ]
    click.echo(plain_table(heads, rows, left=6))
    click.echo("extra: pip install 'tagger[open-clip]' or 'tagger[siglip]' reads it.")


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


@models.command()
@click.argument("folder", type=click.Path(path_type=Path))
@click.argument("manifest")
@options.config
@options.image_options
def quantise(folder: Path, manifest: str, config: Path | None, **options: Any) -> None:  # by the names of settings/options.py
    """Quantise the checkpoint in FOLDER to int8 with images of MANIFEST, and keep the result in FOLDER.

    Every run with this checkpoint, --backend openvino and --precision int8 then uses it, on every machine that has the folder,
    the same versions of OpenVINO and NNCF and a CPU of the same kind (with VNNI, or without). Prints the file.

    \b
    Example:
      tagger models quantise clip manifest.parquet
      tagger run manifest.parquet --model ./clip --backend openvino --precision int8
    """
    log_to_stderr(logging.INFO)
    from tagger.workflows.models import quantise

    click.echo(printable(str(quantise(folder, manifest, config, **take_overrides(options)))))


def _describe(repository: str, commit: str, size: int) -> str:
    return printable(f"{repository} at {commit}: whole, {size / 1e6:,.1f} MB")
