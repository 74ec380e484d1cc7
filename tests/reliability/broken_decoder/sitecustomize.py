"""Make Pillow fail as a faulty decoder in C would, for files that say so behind their last byte; put this on PYTHONPATH."""

import ctypes
import os
import signal
from typing import Any

from PIL import Image

MARK = b"broken-decoder:"
FAILURES = {
    b"segfault": lambda: ctypes.string_at(0),
    b"kill": lambda: os.kill(os.getpid(), signal.SIGKILL),
    b"exit": lambda: os._exit(3),
    b"hang": lambda: ctypes.CDLL(None).sleep(3600),
    b"memory": lambda: bytearray(1 << 50),
}

open_image = Image.open


def open_or_fail(file: Any, *arguments: Any, **options: Any) -> Image.Image:
    _, _, failure = file.getvalue().rpartition(MARK)
    if failure in FAILURES:
        FAILURES[failure]()
    return open_image(file, *arguments, **options)


Image.open = open_or_fail
