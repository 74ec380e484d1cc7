"""`tagger review`: tags that a person corrects, and their way back into the manifest."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import click

from tagger.cli.console import log_to_stderr
from tagger.cli.options import split_list
from tagger.core.text import one_line, printable


class _PageByDefault(click.Group):
    """A group whose first argument is that of `page`, unless it names a command."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        if args and args[0] not in (*self.commands, *ctx.help_option_names):
            args = ["page", *args]
        return super().parse_args(ctx, args)


@click.group(cls=_PageByDefault, subcommand_metavar="[page] RESULT | apply CORRECTIONS MANIFEST")
def review() -> None:
    """Correct the tags that teach most, and take the corrections as ground truth for the next night.

    `tagger review RESULT` is short for `tagger review page RESULT`; its options are those of `page`.

    \b
    Examples:
      tagger review manifest.tagged.parquet
      tagger review apply corrections.csv manifest.parquet
    """


@review.command()
@click.argument("result")
@click.option("--budget", type=click.IntRange(1), default=200, show_default=True, help="Rows that are asked about.")
@click.option("--output", type=click.Path(path_type=Path), help="The file; default: review.html and so on in the run folder.")
@click.option(
    "--format",
    type=click.Choice(["html", "label-studio", "csv", "parquet"]),
    default="html",
    show_default=True,
    help="A page, tasks for Label Studio, or a table to fill in.",
)
@click.option("--attribute", help="Which one, where there are several.")
@click.option("--image-root", type=click.Path(path_type=Path), help="Where image paths start; default: as in the run.")
@click.option("--workers", type=click.IntRange(0), help="Processes that decode images; default: by the machine.")
def page(result: str, **options: Any) -> None:  # the others are those of workflows/review.py, by the same names
    """Write the rows of RESULT that a person should look at; the word `page` may be left out.

    RESULT may also be a .run folder; both may be on a store. review.html is one file with its pictures: open it, choose by
    keyboard, save corrections.csv. Nothing is sent anywhere. Of --format label-studio, the second file is the labelling
    interface; in csv and parquet, fill in `correction` or `note`.

    \b
    Examples:
      tagger review page manifest.tagged.parquet
      tagger review manifest.tagged.parquet --attribute category --budget 500
      tagger review manifest.tagged.parquet --format label-studio --output tasks.json
    """
    log_to_stderr(logging.INFO)
    from tagger.workflows.early_start import start_reading_result

    start_reading_result(result)
    from tagger.workflows.review import review

    for place in review(result, **options):
        click.echo(printable(place))


@review.command()
@click.argument("corrections", type=click.Path(path_type=Path))
@click.argument("manifest")
@click.option("--config", type=click.Path(path_type=Path), help="Settings; default: tagger.toml beside MANIFEST or here.")
@click.option("--labels", callback=split_list, help="The labels, where the run was given them as an option.")
@click.option("--image-column", help="Column with the images, where the run was given it as an option.")
@click.option("--output", type=click.Path(), help="A new file for the rows with their truth; default: MANIFEST itself.")
@click.option("--in-place", is_flag=True, help="Write into MANIFEST itself, as without --output.")
@click.option("--overwrite-truth", is_flag=True, help="Replace truth that differs from a correction.")
@click.option("--other-result", is_flag=True, help="Take corrections of another result, if only the tags have changed.")
def apply(
    corrections: Path, manifest: str, config: Path | None, output: str | None, in_place: bool, **options: Any
) -> None:  # the others are those of workflows/apply_corrections.py, by the same names
    """Write CORRECTIONS into the truth column of MANIFEST.

    It is written by one rename, with all corrections or none, and may be a result. CORRECTIONS is what the page saved, a csv or
    parquet file of `tagger review` that was filled in, or Label Studio's export as JSON or JSON-MIN. Who and when stand in
    two more columns, "not in this list" and "bad picture" in a third.

    \b
    Examples:
      tagger review apply corrections.csv manifest.parquet
      tagger review apply project-1.json manifest.parquet --output manifest.corrected.parquet
    """
    if in_place and output is not None:
        raise click.UsageError("--in-place: expected it without --output; leave one out")
    log_to_stderr(logging.WARNING)
    from tagger.workflows.early_start import start_reading

    start_reading(manifest)
    from tagger.workflows.apply_corrections import apply_corrections

    applied = apply_corrections(corrections, manifest, config, output=output, **options)
    click.echo(
        f"{applied.written} rows corrected, {applied.confirmed} had that truth already, {len(applied.kept)} keep another one"
    )
    click.echo(one_line(str(applied.output or manifest)))
