"""`tagger train`, `tagger calibrate`, `tagger compare`: learn from labelled rows."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import click

from tagger.cli import options
from tagger.cli.console import log_to_stderr
from tagger.core.errors import UsageError


@click.command()
@click.argument("manifest")
@click.option("--output", required=True, type=click.Path(path_type=Path), help="Folder for tables and pictures.")
@click.option(
    "--systems",
    callback=options.split,
    default="zero-shot,resnet18,hybrid",
    show_default=True,
    help="What is compared, the yardstick first.",
)
@click.option(
    "--shots",
    callback=options.split,
    default="12",
    show_default=True,
    help="Rows of each label to learn from; 1,2,4,8 draws curves.",
)
@click.option("--test", default="4", show_default=True, help="Rows of each label to test with; all: of --test-manifest.")
@click.option("--seeds", type=click.IntRange(1), default=20, show_default=True, help="How often rows are drawn.")
@click.option("--test-manifest", help="Where the rows to test with come from; default: MANIFEST.")
@options.config
@options.learned_labels
@options.attribute
@options.recipe
@click.option("--model", help="CLIP: a hub id or a local folder.")
@options.image_column
@options.image_root
@options.device
@options.workers
@click.option("--overwrite", is_flag=True, help="Replace an existing comparison.")
def compare(
    manifest: str,
    output: Path,
    systems: list[str],
    shots: list[str],
    test: str,
    seeds: int,
    test_manifest: str | None,
    config: Path | None,
    labels: list[str] | None,
    attribute: str | None,
    model: str | None,
    image_column: str | None,
    image_root: Path | None,
    device: str | None,
    workers: int | None,
    overwrite: bool,
    **recipe: Any,
) -> None:
    """Compare zero-shot CLIP, a ResNet18 and both together: each learns from a few rows and is tested with others, --seeds times.

    \b
    Example:
      tagger compare labelled.parquet --shots 12 --test 4 --seeds 20 --output comparison
    """
    log_to_stderr(logging.INFO)
    from tagger.training.resnet18 import Recipe
    from tagger.workflows.compare import compare

    compared = compare(
        manifest,
        output,
        config,
        systems=systems,
        shots=[_number(count, "--shots") for count in shots],
        test=None if test == "all" else _number(test, "--test"),
        seeds=seeds,
        test_manifest=test_manifest,
        recipe=Recipe(**recipe),
        labels=labels,
        attribute=attribute,
        model=model,
        image_column=image_column,
        image_root=image_root,
        device=device,
        workers=workers,
        overwrite=overwrite,
        progress=True,
    )
    click.echo(f"{compared.to_text()}\n\n{output}")


def _number(text: str, option: str) -> int:
    if not text.isdecimal() or not int(text):
        raise UsageError(f"{option}: expected a number of rows from 1 on, found {text}; correct it")
    return int(text)
