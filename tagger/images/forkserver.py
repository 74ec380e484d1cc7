"""Imported first by the process that decoders are forked from, so that it ends with the run that started it.

By itself that process would notice the run's end only after its imports, and then wait for the decoders, which wait for it.
Linux only; elsewhere the decoders' own watch (images/loader.py) ends them, and then that process, too.
"""

import ctypes
import pickle
import signal
import sys
from types import TracebackType

PR_SET_PDEATHSIG = 1  # prctl(2)


def _say_what_matters(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    # A decoder that starts while the run is being stopped finds its queues gone, or half of what it was to be told.
    if not issubclass(kind, (OSError, EOFError, pickle.UnpicklingError)):
        sys.__excepthook__(kind, error, trace)


sys.excepthook = _say_what_matters
if sys.platform == "linux":
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
