"""Remember that a signal asked for a stop, because the exception that carries it may be lost on its way.

Python drops what a destructor raises, and a library may turn a KeyboardInterrupt into something else. So the handler, which the
command line (cli/main.py) installs, notes the request here, and the run looks here wherever it can stop.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

from tagger.core.errors import StoppedError, TaggerError

LAST_SECONDS = 15.0  # for workers to end by themselves; whoever sent the signal waits 25 s

requested = False
holding = False  # a stop waits for the end of a step that must not be left half done
late = False  # a stop was asked for when it was too late
too_late = False  # the results are about to appear: milliseconds from the end, or the time that their upload takes


def on_signal(number: int, frame: FrameType | None) -> None:
    """Handle SIGINT or SIGTERM: stop; end at once, which is always safe, on a second signal or where stopping takes long."""
    global requested, late
    for again in (signal.SIGINT, signal.SIGTERM, signal.SIGALRM):
        signal.signal(again, _end)
    signal.setitimer(signal.ITIMER_REAL, LAST_SECONDS)
    if too_late:
        late = True
        return
    requested = True
    if not holding:
        raise KeyboardInterrupt


@contextmanager
def held() -> Iterator[None]:
    """Let a stop wait until a short step is done, which would leave half of something if it were interrupted."""
    global holding
    holding = True
    try:
        yield
    finally:
        holding = False
    check()


def check() -> None:
    """Raise KeyboardInterrupt if a stop was asked for."""
    if requested:
        raise KeyboardInterrupt


def check_late() -> None:
    """Raise StoppedError if a stop was asked for after the results were there, where there is work that may be left out."""
    check()
    if late:
        raise StoppedError("a stop was asked for")


def publishing() -> None:
    """Ignore a first signal from here on, as it comes too late. Raises KeyboardInterrupt if one has come already."""
    global too_late
    check()
    too_late = True


def exit_code(error: BaseException) -> int:
    """Return the exit code of a run that this error ended. Once a stop was asked for, any error may be its consequence."""
    if requested or isinstance(error, KeyboardInterrupt):
        return StoppedError.exit_code
    return error.exit_code if isinstance(error, TaggerError) else TaggerError.exit_code


def _end(number: int, frame: FrameType | None) -> None:
    os._exit(StoppedError.exit_code)
