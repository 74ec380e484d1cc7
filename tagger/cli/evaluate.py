"""The command line: options -> settings -> one library call -> an exit code."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from tagger.catalog.sandbox import start_reading
from tagger.core.urls import is_object_url

if TYPE_CHECKING:
    pass


@click.command()
@click.argument("results", type=click.Path())
@click.option("--attribute", multiple=True, help="Only this attribute; may be repeated.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def evaluate(results: str, attribute: tuple[str, ...], as_json: bool) -> None:
    """Evaluate the rows of RESULTS that carry ground truth.

    \b
    Example:
      tagger evaluate manifest.tagged.parquet --attribute category
    """
    if not is_object_url(results):
        start_reading(results)
    import tagger

    evaluation = tagger.evaluate(results, attribute)
    click.echo(evaluation.to_json() if as_json else evaluation.to_text())
