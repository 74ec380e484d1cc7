"""`tagger prompts`: which prompts tag best?"""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import click

from tagger.cli import options
from tagger.cli.console import log_to_stderr
from tagger.cli.options import manifest_options, take_machine, take_overrides
from tagger.settings.options import PromptTrial


@click.command()
@click.argument("manifest")
@manifest_options
@options.attribute
@click.option("--descriptions", type=click.Path(path_type=Path), help="JSON, {label: [descriptions]}, to try as prompts.")
@options.product_column
@click.option("--write", is_flag=True, help="Put the best set into tagger.toml if it is surely better than what is there.")
@click.option("--seed", type=click.IntRange(0), default=0, show_default=True, help="Of the halves and the random words.")
@options.as_json
def prompts(
    manifest: str, attribute: str | None, as_json: bool, **options: Any
) -> None:  # the others are those of settings/options.py, by the same names
    """Try sets of prompts on the rows of MANIFEST that carry ground truth: half of them choose the best set, the others judge it.

    \b
    Example:
      tagger prompts labelled.parquet --descriptions descriptions.json --write
    """
    log_to_stderr(logging.INFO)
    from tagger.workflows.prompts import prompts

    trial = PromptTrial(**{name: options.pop(name) for name in ("descriptions", "product_column", "write", "seed")})
    found = prompts(
        manifest,
        options.pop("config"),
        attribute=attribute,
        trial=trial,
        machine=take_machine(options),
        **take_overrides(options),
    )
    click.echo(found.to_json() if as_json else found.to_text())
    if not as_json and trial.write:
        click.echo(found.written or "nothing was written")
