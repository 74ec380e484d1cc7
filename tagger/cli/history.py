"""`tagger history`: what the nights came to."""

from __future__ import annotations

from pathlib import Path

import click


@click.command()
@click.argument("folder", metavar="DIR", type=click.Path(exists=True, file_okay=False, path_type=Path), default=".")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def history(folder: Path, as_json: bool) -> None:
    """Show the nights below DIR (default: here), oldest first: the last run of each result's run folder.

    \b
    Example:
      tagger history nights
    """
    from tagger.reports.history import nights_to_json, read_history, to_table

    nights = read_history(folder)
    click.echo(nights_to_json(nights) if as_json else to_table(nights))
