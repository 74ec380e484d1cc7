"""A stop that was asked for by a signal: remembered, because the exception that carries it may be lost on its way.

Python drops what a destructor raises, and a library may turn a KeyboardInterrupt into something else. So the handler of the
command line (cli.py) says here that it was asked, and the run looks here wherever it can stop.
"""

from __future__ import annotations

import os
import signal
from types import FrameType

from tagger.core.errors import StoppedError, TaggerError

LAST_SECONDS = 15.0  # for workers to end by themselves; whoever sent the signal waits 25 s

requested = False
too_late = False  # the results are about to appear: milliseconds from the end, or the time that their upload takes


def on_signal(number: int, frame: FrameType | None) -> None:
    """Handle SIGINT or SIGTERM: stop; the second time, and where stopping takes long, end at once, which is always safe."""
    global requested
    for again in (signal.SIGINT, signal.SIGTERM, signal.SIGALRM):
        signal.signal(again, _end)
    signal.setitimer(signal.ITIMER_REAL, LAST_SECONDS)
    if too_late:
        return
    requested = True
    raise KeyboardInterrupt


def check() -> None:
    """Stop here if that was asked for: raises KeyboardInterrupt."""
    if requested:
        raise KeyboardInterrupt


def publishing() -> None:
    """From here on a first signal comes too late; raises KeyboardInterrupt if it has come already."""
    global too_late
    check()
    too_late = True


def exit_code(error: BaseException) -> int:
    """Of a run that ended so. Once a stop was asked for, any error may be its consequence."""
    if requested or isinstance(error, KeyboardInterrupt):
        return StoppedError.exit_code
    return error.exit_code if isinstance(error, TaggerError) else TaggerError.exit_code


def _end(number: int, frame: FrameType | None) -> None:
    os._exit(StoppedError.exit_code)
