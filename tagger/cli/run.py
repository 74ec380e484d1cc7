"""`tagger run`: tag a manifest."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

import click

from tagger.cli.console import log_to_stderr
from tagger.cli.options import engine_options, manifest_options, max_errors, overwrite, take_machine, take_overrides
from tagger.core.errors import GateError, UsageError
from tagger.core.text import printable
from tagger.settings.options import Output

if TYPE_CHECKING:
    from tagger.reports.summary import RunSummary


def _shard(context: click.Context, parameter: click.Parameter, value: str | None) -> tuple[int, int] | None:
    """Read K/N; whether the numbers can be meant is for Output to say."""
    if value is None:
        return None
    number, slash, count = value.partition("/")
    if not (slash and number.isdecimal() and count.isdecimal()):
        raise UsageError(f"--shard: expected K/N, such as 3/16, found {value}; correct it")
    return int(number), int(count)


@click.command()
@click.argument("manifest")
@click.option("--output", "path", type=click.Path(), help="Result file; default: MANIFEST's name + .tagged.parquet.")
@manifest_options
@engine_options
@click.option("--limit", type=click.IntRange(0), help="Tag only the first N rows.")
@overwrite
@click.option("--in-place", is_flag=True, help="Write the tags into MANIFEST itself, replacing those of an earlier run.")
@click.option("--fresh", is_flag=True, help="Start over instead of continuing an interrupted run.")
@max_errors
@click.option("--retry-errors", type=click.Path(), help="Try only the error rows of this result again.")
@click.option("--previous", type=click.Path(), help="Count labels that differ from this result; default: the one at --output.")
@click.option("--no-heads", is_flag=True, help="Leave the attributes' heads out: the prompts decide, without calibration.")
@click.option("--report/--no-report", default=True, show_default=True, help="Write report.html into the run folder.")
@click.option("--shard", metavar="K/N", callback=_shard, help="Tag only the K-th of N parts, for tagger merge.")
@click.option("--quiet", is_flag=True, help="Print only errors and the result's path.")
def run(manifest: str, quiet: bool, no_heads: bool, **options: Any) -> None:  # those of settings/options.py, by the same names
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
    config, overrides = options.pop("config"), take_overrides(options)
    machine = take_machine(options, progress=not quiet)
    output = Output(**options)
    from tagger.workflows.early_start import start_reading, start_reading_result

    start_reading(manifest)
    start_reading_result(output.previous or output.path)
    if output.shard is not None:
        from tagger.workflows.shard import tag_shard

        click.echo(tag_shard(manifest, config, output=output, machine=machine, heads=not no_heads, **overrides).to_text())
        return
    from tagger.workflows.run import run

    try:
        summary = run(manifest, config, output=output, machine=machine, heads=not no_heads, **overrides)
    except GateError as error:
        show(error.summary, quiet)
        raise
    show(summary, quiet)


def show(summary: RunSummary, quiet: bool) -> None:
    if not quiet:
        click.echo(summary.to_text())
    click.echo(printable(str(summary.output)))
