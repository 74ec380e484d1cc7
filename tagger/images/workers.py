"""The processes that decode: how many, and started early. Imports nothing heavy."""

from __future__ import annotations

import logging
import multiprocessing
import shutil
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing import forkserver, resource_tracker
from pathlib import Path
from types import ModuleType

log = logging.getLogger(__name__)

SHARED_MEMORY = Path("/dev/shm")  # where batches pass from the workers to the main process, on Linux
BATCHES_PER_WORKER = 3  # two that a worker has to do, and one on its way


def start_early() -> None:
    """Start the process that workers are forked from, to import torch and torchvision while this one loads the model."""
    if start_method() == "forkserver":
        modules = [f"tagger.images.{name}" for name in ("forkserver", "loader", "decode")]
        multiprocessing.get_context("forkserver").set_forkserver_preload(modules)
        # Ctrl-C reaches the whole process group, and that process would answer it with a traceback; a mask is inherited. The
        # tracker goes first: starting it resets the mask.
        # A run that is stopped twice ends at once; the tracker removes what it leaves, and need not warn about that.
        sys.warnoptions.append("ignore:resource_tracker:UserWarning")
        try:
            resource_tracker.ensure_running()
        finally:
            sys.warnoptions.pop()
        before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
        try:
            forkserver.ensure_running()
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)


def start_method() -> str:
    """Return how workers are started: from a small clean process where the system has that.

    Forking this one, with its threads, may deadlock, and would count its memory in every worker's.
    """
    return "forkserver" if "forkserver" in multiprocessing.get_all_start_methods() else "spawn"


@contextmanager
def without_main() -> Iterator[None]:
    """Hide the main module while processes are started: they need nothing of it, and would run a script from its beginning.

    So a script needs no `if __name__ == "__main__":`, and one that comes from stdin or a notebook has no file to be missed.
    """
    main = sys.modules["__main__"]
    sys.modules["__main__"] = ModuleType("__main__")
    try:
        yield
    finally:
        sys.modules["__main__"] = main


def choose_workers(device: str) -> int:
    """Return how many processes decode on this machine for this device type: never none, so that no image can end the run."""
    from joblib import cpu_count

    cores: int = cpu_count()  # knows a container's quota, which the affinity does not
    # On a CPU the encoder itself wants the cores: two processes use the moments in which it waits, of many a quarter is enough.
    return min(cores, 16) if device != "cpu" else max(cores // 4, 2)


def fit_shared_memory(workers: int, batch_bytes: int, folder: Path = SHARED_MEMORY) -> int:
    """Return how many of these workers have room in shared memory for their batches; a warning says so where it is fewer."""
    if not workers or not folder.is_dir():
        return workers
    free = shutil.disk_usage(folder).free
    fitting = min(workers, free // (BATCHES_PER_WORKER * batch_bytes))
    if fitting < workers:
        without = "" if fitting else "; images are decoded in the main process, which a hostile one may end"
        log.warning(
            "%s has %d MiB free, %d decoding processes want %d MiB: using %d%s; give it more (docker run --shm-size)",
            folder,
            free >> 20,
            workers,
            workers * BATCHES_PER_WORKER * batch_bytes >> 20,
            fitting,
            without,
        )
    return fitting
