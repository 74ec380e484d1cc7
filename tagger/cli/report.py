"""`tagger report`: build the page of a run again."""

from __future__ import annotations

import logging
from pathlib import Path

import click

from tagger.cli.console import log_to_stderr
from tagger.cli.options import split_list
from tagger.core.text import printable


@click.command()
@click.argument("run")
@click.option("--slice", "slices", callback=split_list, help="Columns whose values are evaluated each for itself, with commas.")
@click.option("--output", type=click.Path(path_type=Path), help="The page's file; default: report.html in the run folder.")
@click.option("--image-root", type=click.Path(path_type=Path), help="Where image paths start; default: as in the run.")
@click.option("--workers", type=click.IntRange(0), help="Processes that decode images; default: by the machine.")
def report(run: str, slices: list[str] | None, output: Path | None, image_root: Path | None, workers: int | None) -> None:
    """Write report.html for RUN, a result or its .run folder, here or on a store; a run has written it already.

    Only the pictures that the page shows are read again. Prints where the page is.

    \b
    Examples:
      tagger report manifest.tagged.parquet
      tagger report manifest.tagged.run --slice brand,season --output /tmp/report.html
    """
    log_to_stderr(logging.INFO)
    from tagger.workflows.early_start import start_reading_result

    start_reading_result(run)
    from tagger.workflows.report import report

    click.echo(printable(report(run, slices=slices or (), output=output, image_root=image_root, workers=workers)))
