"""`tagger merge`: publish the shards that several machines have tagged."""

from __future__ import annotations

import logging

import click

from tagger.cli.console import log_to_stderr
from tagger.cli.options import overwrite
from tagger.cli.run import show
from tagger.core.errors import GateError


@click.command()
@click.argument("output", type=click.Path())
@overwrite
@click.option("--report/--no-report", default=True, show_default=True, help="Write report.html into the run folder.")
@click.option("--quiet", is_flag=True, help="Print only errors and the result's path.")
def merge(output: str, overwrite: bool, report: bool, quiet: bool) -> None:
    """Publish to OUTPUT what `tagger run --shard K/N` has tagged, as one run would have: gates, evaluation, report.

    \b
    Example:
      tagger run manifest.parquet --output tagged.parquet --shard 1/2
      tagger run manifest.parquet --output tagged.parquet --shard 2/2
      tagger merge tagged.parquet
    """
    log_to_stderr(logging.WARNING if quiet else logging.INFO)
    from tagger.workflows.merge import merge

    try:
        summary = merge(output, overwrite=overwrite, report=report)
    except GateError as error:
        show(error.summary, quiet)
        raise
    show(summary, quiet)
