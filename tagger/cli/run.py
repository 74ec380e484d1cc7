"""The command line: options -> settings -> one library call -> an exit code."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from tagger.catalog.sandbox import start_reading
from tagger.cli.console import log_to_stderr
from tagger.cli.options import of_a_job
from tagger.core.errors import GateError
from tagger.core.text import printable
from tagger.core.urls import is_object_url

if TYPE_CHECKING:
    import tagger


@click.command()
@click.argument("manifest")
@click.option("--output", type=click.Path(), help="Result file; default: MANIFEST's name + .tagged.parquet.")
@of_a_job
@click.option("--batch-size", type=click.IntRange(1), default=32, show_default=True, help="Images encoded at once.")
@click.option("--limit", type=click.IntRange(0), help="Tag only the first N rows.")
@click.option("--overwrite", is_flag=True, help="Replace an existing result file.")
@click.option("--in-place", is_flag=True, help="Write the tags into MANIFEST itself, replacing those of an earlier run.")
@click.option("--fresh", is_flag=True, help="Start over instead of continuing an interrupted run.")
@click.option("--max-errors", metavar="N|P%", help="Exit with 3 when more rows than this fail; results go aside.")
@click.option("--retry-errors", type=click.Path(), help="Try only the error rows of this result again.")
@click.option("--previous", type=click.Path(), help="Count labels that differ from this result; default: the one at --output.")
@click.option("--cache", type=click.Path(path_type=Path), help="Folder of the embedding cache; default: the user's cache.")
@click.option("--no-cache", is_flag=True, help="Encode every image, and keep nothing for the next run.")
@click.option("--verify-content", is_flag=True, help="Read every image, even if it seems unchanged.")
@click.option("--quiet", is_flag=True, help="Print only errors and the result's path.")
def run(
    manifest: str,
    output: str | None,
    previous: str | None,
    cache: Path | None,
    no_cache: bool,
    quiet: bool,
    **options: Any,  # tagger.run's, by the same names
) -> None:
    """Tag the images of MANIFEST: a Parquet file, a folder of them, or a glob in quotes; here or on s3://, gs:// or az://.

    Every row of the manifest comes back, in order, with its tags; a row whose image cannot be read says why. Rows with
    ground truth evaluate the run. Prints the path of the results last.

    \b
    Examples:
      tagger run manifest.parquet
      tagger run manifest.parquet --labels shirt,dress,shoes --image-root photos
      tagger run 'catalogue/*.parquet' --output tagged.parquet --model ./clip
      tagger run s3://bucket/night/manifest.parquet --output s3://bucket/night/tagged.parquet
    """
    log_to_stderr(logging.WARNING if quiet else logging.INFO)
    if not is_object_url(manifest):
        start_reading(manifest)
    if (earlier := previous or output) and not is_object_url(earlier) and Path(earlier).is_file():
        start_reading(earlier)
    import tagger

    try:
        summary = tagger.run(
            manifest,
            output=output,
            previous=previous,
            cache=False if no_cache else cache,
            progress=not quiet,
            **options,
        )
    except GateError as error:
        _show(error.summary, quiet)
        raise
    _show(summary, quiet)


def _show(summary: tagger.RunSummary, quiet: bool) -> None:
    if not quiet:
        click.echo(summary.to_text())
    click.echo(printable(str(summary.output)))
