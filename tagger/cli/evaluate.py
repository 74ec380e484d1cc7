"""`tagger evaluate`: how right the tags of a result are."""

from __future__ import annotations

import click

from tagger.cli import options


@click.command()
@click.argument("results", type=click.Path())
@click.option("--attribute", multiple=True, help="Only this attribute; may be repeated.")
@options.as_json
def evaluate(results: str, attribute: tuple[str, ...], as_json: bool) -> None:
    """Evaluate the rows of RESULTS that carry ground truth.

    \b
    Example:
      tagger evaluate manifest.tagged.parquet --attribute category
    """
    from tagger.workflows.early_start import start_reading

    start_reading(results)
    from tagger.workflows.evaluate import evaluate

    evaluation = evaluate(results, attribute)
    click.echo(evaluation.to_json() if as_json else evaluation.to_text())
