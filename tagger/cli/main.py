"""The command line: its commands, errors as one line each, and exit codes."""

from __future__ import annotations

import atexit
import os
import signal
import sys
import traceback

import click

from tagger.cli.cache import cache
from tagger.cli.calibrate import calibrate
from tagger.cli.compare import compare
from tagger.cli.evaluate import evaluate
from tagger.cli.history import history
from tagger.cli.init import init
from tagger.cli.inspect import inspect
from tagger.cli.merge import merge
from tagger.cli.models import models
from tagger.cli.prompts import prompts
from tagger.cli.report import report
from tagger.cli.review import review
from tagger.cli.run import run
from tagger.cli.train import train
from tagger.core import published, shutdown
from tagger.core.errors import StoppedError, TaggerError
from tagger.core.text import one_line, printable


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(package_name="tagger")
def cli() -> None:
    """Tag the product images of a Parquet manifest with CLIP.

    \b
    Example:
      tagger run manifest.parquet --labels shirt,dress,shoes
    """


for command in (run, merge, evaluate, inspect, train, calibrate, compare, prompts, report, review, history, models, cache, init):
    cli.add_command(command)


def main() -> None:
    """Run the command line; errors become one line on stderr and the exit code of core/errors.py."""
    # A scheduler's SIGTERM ends a run as Ctrl-C does: workers stopped, nothing published, the finished shards kept.
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, shutdown.on_signal)
        # Registered first, so done last: from then on Python would let a signal change the exit code.
        atexit.register(signal.signal, number, signal.SIG_IGN)
    published.note(published.NOTHING)
    try:
        cli(standalone_mode=False)
    except SystemExit:
        raise
    except BaseException as error:  # noqa: BLE001  # a stop is a KeyboardInterrupt, or whatever became of it
        shutdown.too_late = True
        if os.environ.get("TAGGER_DEBUG"):
            traceback.print_exc()
        sys.exit(_explain(error))


def _explain(error: BaseException) -> int:
    """Say what ended the run; returns the exit code."""
    # Once a stop was asked for, any error may be its consequence: the workers, for example, may have had the signal too.
    if shutdown.requested or isinstance(error, click.Abort | KeyboardInterrupt):
        again = "; run the same command again to continue" if published.outcome == published.NOTHING else ""
        click.echo(f"tagger: stopped; {printable(published.outcome)}{again}", err=True)
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
        f"tagger: unexpected {type(error).__name__}: {reason}; {printable(published.outcome)}; this is a fault of tagger: set "
        "TAGGER_DEBUG=1 to see where, and report it",
        err=True,
    )
    return 1
