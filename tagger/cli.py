"""The command line: options -> settings -> one library call -> an exit code."""

from __future__ import annotations

import atexit
import logging
import os
import signal
import sys
import traceback
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from tagger import stop
from tagger.cache_commands import cache
from tagger.catalog.check import start_check
from tagger.catalog.storage import is_remote
from tagger.errors import GateError, StoppedError, TaggerError
from tagger.history_command import history
from tagger.inspect_command import inspect
from tagger.learning_commands import calibrate, compare, train
from tagger.log import log_to_stderr
from tagger.model_commands import models
from tagger.options import of_a_job
from tagger.text import one_line, printable

if TYPE_CHECKING:
    import tagger


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(package_name="tagger")
def cli() -> None:
    """Tag the product images of a Parquet manifest with CLIP.

    \b
    Example:
      tagger run manifest.parquet --labels shirt,dress,shoes
    """


@cli.command()
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
    if not is_remote(manifest):
        start_check(manifest)
    if (earlier := previous or output) and not is_remote(earlier) and Path(earlier).is_file():
        start_check(str(Path(earlier).absolute()))
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


@cli.command()
@click.argument("results", type=click.Path())
@click.option("--attribute", multiple=True, help="Only this attribute; may be repeated.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def evaluate(results: str, attribute: tuple[str, ...], as_json: bool) -> None:
    """Evaluate the rows of RESULTS that carry ground truth.

    \b
    Example:
      tagger evaluate manifest.tagged.parquet --attribute category
    """
    if not is_remote(results):
        start_check(str(results))
    import tagger

    evaluation = tagger.evaluate(results, attribute)
    click.echo(evaluation.to_json() if as_json else evaluation.to_text())


@cli.command()
@click.argument("folder", type=click.Path(exists=True, file_okay=False, path_type=Path), default=".")
def init(folder: Path) -> None:
    """Write a commented tagger.toml into FOLDER (default: here).

    \b
    Example:
      tagger init catalogue
    """
    from tagger.starter import write_starter

    click.echo(write_starter(folder))


cli.add_command(cache)
cli.add_command(train)
cli.add_command(calibrate)
cli.add_command(compare)
cli.add_command(history)
cli.add_command(models)
cli.add_command(inspect)


def _show(summary: tagger.RunSummary, quiet: bool) -> None:
    if not quiet:
        click.echo(summary.to_text())
    click.echo(printable(str(summary.output)))


def main() -> None:
    """Run the command line; errors become one line on stderr and the exit code of errors.py."""
    # A scheduler's SIGTERM ends a run as Ctrl-C does: workers stopped, nothing published, the finished shards kept.
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, stop.on_signal)
        # Registered first, so done last: from then on Python would let a signal change the exit code.
        atexit.register(signal.signal, number, signal.SIG_IGN)
    try:
        cli(standalone_mode=False)
    except SystemExit:
        raise
    except BaseException as error:  # noqa: BLE001  # a stop is a KeyboardInterrupt, or whatever became of it
        stop.too_late = True
        if os.environ.get("TAGGER_DEBUG"):
            traceback.print_exc()
        sys.exit(_explain(error))


def _explain(error: BaseException) -> int:
    """Say what ended the run; returns the exit code."""
    # Once a stop was asked for, any error may be its consequence: the workers, for example, may have had the signal too.
    if stop.requested or isinstance(error, click.Abort | KeyboardInterrupt):
        click.echo("tagger: stopped; nothing was published; run the same command again to continue", err=True)
        return StoppedError.exit_code
    if isinstance(error, click.ClickException):
        error.show()
        return error.exit_code
    if isinstance(error, TaggerError):
        for line in str(error).split("\n"):
            click.echo(f"tagger: {line}", err=True)
        return error.exit_code
    if isinstance(error, BrokenPipeError):  # the reader of stdout has gone; Python would complain once more while it ends
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    reason = one_line(" ".join(str(error).split()))
    click.echo(
        f"tagger: unexpected {type(error).__name__}: {reason}; nothing was published; this is a fault of tagger: set "
        "TAGGER_DEBUG=1 to see where, and report it",
        err=True,
    )
    return 1
