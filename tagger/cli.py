"""The command line: options -> settings -> one library call -> an exit code."""

from __future__ import annotations

import atexit
import logging
import os
import signal
import sys
import traceback
from pathlib import Path
from typing import TYPE_CHECKING

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
@click.option("--config", type=click.Path(path_type=Path), help="Settings; default: tagger.toml beside MANIFEST or here.")
@click.option("--labels", help="Labels to choose between, separated by commas.")
@click.option("--model", help="CLIP checkpoint: a hub id or a local folder.")
@click.option("--revision", help="Hub commit, tag or branch of --model.")
@click.option("--backend", type=click.Choice(["torch", "openvino"]), help="What computes; default: torch.")
@click.option(
    "--precision", type=click.Choice(["auto", "fp32", "bf16", "fp16", "int8"]), help="Of the image encoder; default: auto."
)
@click.option("--image-column", help="Column with paths or embedded images; found by itself if named as usual.")
@click.option("--image-root", type=click.Path(path_type=Path), help="Where image paths start; default: MANIFEST's folder.")
@click.option("--device", help="cpu, cuda, cuda:1, mps …; default: an accelerator if there is one.")
@click.option("--batch-size", type=click.IntRange(1), default=32, show_default=True, help="Images encoded at once.")
@click.option("--workers", type=click.IntRange(0), help="Processes that decode images; default: by the machine.")
@click.option("--limit", type=click.IntRange(0), help="Tag only the first N rows.")
@click.option("--overwrite", is_flag=True, help="Replace an existing result file.")
@click.option("--in-place", is_flag=True, help="Write the tags into MANIFEST itself, replacing those of an earlier run.")
@click.option("--fresh", is_flag=True, help="Start over instead of continuing an interrupted run.")
@click.option("--image-timeout", type=click.FloatRange(0, min_open=True), help="Seconds for one image; default: 60.")
@click.option("--allow-formats", help="Image formats beside JPEG, PNG and WebP, for example GIF,TIFF.")
@click.option("--max-errors", metavar="N|P%", help="Exit with 3 when more rows than this fail; results go aside.")
@click.option("--retry-errors", type=click.Path(), help="Try only the error rows of this result again.")
@click.option("--previous", type=click.Path(), help="Count labels that differ from this result; default: the one at --output.")
@click.option("--cache", type=click.Path(path_type=Path), help="Folder of the embedding cache; default: the user's cache.")
@click.option("--no-cache", is_flag=True, help="Encode every image, and keep nothing for the next run.")
@click.option("--verify-content", is_flag=True, help="Read every image, even if it seems unchanged.")
@click.option("--exact-preprocessing", is_flag=True, help="Pixels as the model's own image processor makes them; slower.")
@click.option("--quiet", is_flag=True, help="Print only errors and the result's path.")
def run(
    manifest: str,
    output: str | None,
    config: Path | None,
    labels: str | None,
    model: str | None,
    revision: str | None,
    backend: str | None,
    precision: str | None,
    image_column: str | None,
    image_root: Path | None,
    device: str | None,
    batch_size: int,
    workers: int | None,
    limit: int | None,
    overwrite: bool,
    in_place: bool,
    fresh: bool,
    image_timeout: float | None,
    allow_formats: str | None,
    max_errors: str | None,
    retry_errors: str | None,
    previous: str | None,
    cache: Path | None,
    no_cache: bool,
    verify_content: bool,
    exact_preprocessing: bool,
    quiet: bool,
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
            config,
            output=output,
            labels=_split(labels),
            model=model,
            revision=revision,
            backend=backend,
            precision=precision,
            image_column=image_column,
            image_root=image_root,
            device=device,
            batch_size=batch_size,
            workers=workers,
            limit=limit,
            overwrite=overwrite,
            in_place=in_place,
            fresh=fresh,
            image_timeout=image_timeout,
            allow_formats=_split(allow_formats),
            max_errors=max_errors,
            retry_errors=retry_errors,
            previous=previous,
            cache=False if no_cache else cache,
            verify_content=verify_content,
            exact_preprocessing=exact_preprocessing,
            progress=not quiet,
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


def _split(names: str | None) -> list[str] | None:
    return None if names is None else [name.strip() for name in names.split(",")]


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
