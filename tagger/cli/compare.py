"""`tagger compare`: which system is best on a few labelled rows."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import click

from tagger.cli import options
from tagger.cli.console import log_to_stderr
from tagger.cli.options import manifest_options, recipe_options, split_list, take_machine, take_overrides, take_recipe
from tagger.core.errors import UsageError
from tagger.settings.options import COMPARED, SYSTEMS, Study


@click.command()
@click.argument("manifest")
@click.option("--output", required=True, type=click.Path(path_type=Path), help="Folder for tables and pictures.")
@manifest_options
@options.attribute
@click.option(
    "--systems",
    callback=split_list,
    default=",".join(COMPARED),
    show_default=True,
    help=f"What is compared, the yardstick first: some of {', '.join(SYSTEMS)}.",
)
@click.option(
    "--shots",
    callback=split_list,
    default="12",
    show_default=True,
    help="Rows of each label to learn from; 1,2,4,8 draws curves.",
)
@click.option("--test", default="4", show_default=True, help="Rows of each label to test with; all: of --test-manifest.")
@click.option("--seeds", type=click.IntRange(1), default=20, show_default=True, help="How often rows are drawn.")
@click.option("--test-manifest", help="Where the rows to test with come from; default: MANIFEST.")
@recipe_options
@options.overwrite
def compare(
    manifest: str, output: Path, shots: list[str], test: str, overwrite: bool, **options: Any
) -> None:  # the others are those of settings/options.py, by the same names
    """Compare systems: each learns from a few rows and is tested with others, --seeds times.

    They are zero-shot CLIP, a ResNet18, both together (hybrid), heads on CLIP's embeddings by one method, and head: what
    `tagger train head` would use after those rows.

    \b
    Examples:
      tagger compare labelled.parquet --shots 12 --test 4 --seeds 20 --output comparison
      tagger compare labelled.parquet --systems zero-shot,gda,clap,head --shots 1,2,4,8,16 --output curves
    """
    log_to_stderr(logging.INFO)
    study = Study(
        shots=[_count(number, "--shots") for number in shots],
        test=None if test == "all" else _count(test, "--test"),
        **{name: options.pop(name) for name in ("systems", "seeds", "test_manifest", "attribute")},
    )
    from tagger.workflows.compare import compare

    compared = compare(
        manifest,
        output,
        options.pop("config"),
        study=study,
        recipe=take_recipe(options),
        overwrite=overwrite,
        machine=take_machine(options),
        **take_overrides(options),
    )
    click.echo(f"{compared.to_text()}\n\n{output}")


def _count(text: str, option: str) -> int:
    if not text.isdecimal() or not int(text):
        raise UsageError(f"{option}: expected a number of rows from 1 on, found {text}; correct it")
    return int(text)
