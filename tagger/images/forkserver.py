"""Imported first by the process that decoders are forked from, so that it ends with the run that started it.

By itself that process would notice the run's end only after its imports, and then wait for the decoders, which wait for it.
Linux only; elsewhere the decoders' own watch (images/loader.py) ends them, and then that process, too.
"""

import ctypes
import signal
import sys

PR_SET_PDEATHSIG = 1  # prctl(2)

if sys.platform == "linux":
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
