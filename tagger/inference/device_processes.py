"""Several devices of this machine: one process for each, over the same shards."""

from __future__ import annotations

import logging
import multiprocessing
import os
import signal
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess

from tagger.catalog.manifest import Shard
from tagger.core import shutdown
from tagger.core.errors import StoppedError, TaggerError, UsageError
from tagger.core.text import first_line
from tagger.images.workers import choose_workers, without_main
from tagger.inference.dispatch import Answer, Dispatcher, Done, MakeWorker, Told, tag_what_is_asked
from tagger.settings.options import Machine

log = logging.getLogger(__name__)

LAST_SECONDS = 20.0  # for processes to end; they end by themselves within shutdown.LAST_SECONDS
THREADS = "OMP_NUM_THREADS"


class DeviceProcesses:
    """Processes that tag shards, one on each of these machines' devices."""

    def __init__(self, make: MakeWorker, machines: Sequence[Machine]) -> None:
        self._dispatcher = Dispatcher()
        self._processes: list[BaseProcess] = []
        self._pipes: dict[Connection, int] = {}
        self._names = [f"{machine.device} (process {number})" for number, machine in enumerate(machines, 1)]
        context = multiprocessing.get_context("spawn")
        with _few_threads(machines), without_main():
            for number, machine in enumerate(machines):
                ours, theirs = context.Pipe()
                process = context.Process(target=_main, args=(make, machine, theirs), name=self._names[number])
                self._processes.append(process)
                process.start()
                theirs.close()  # so that the end of the process is the end of the pipe
                self._pipes[ours] = number

    def __len__(self) -> int:
        return len(self._processes)

    def offer(self, shards: Sequence[Shard]) -> None:
        """Say which shards are to be tagged."""
        self._dispatcher.offer(shards)

    def told(self) -> Iterator[tuple[int, Told]]:
        """Yield what each process, by its number, tells, until all shards are done.

        A process that dies gives its shards back. Raises what a process could not go on from, StoppedError if none is left.
        """
        while self._pipes:
            shutdown.check()
            for pipe in wait(list(self._pipes), timeout=1.0):
                assert isinstance(pipe, Connection)
                number = self._pipes[pipe]
                try:
                    message = pipe.recv()
                except (EOFError, OSError):
                    del self._pipes[pipe]
                    self._ended(number)
                    continue
                if message is None:
                    with suppress(OSError):  # it has died meanwhile, as the next turn finds
                        pipe.send(self._dispatcher.ask(number))
                elif isinstance(message, StoppedError) and len(self._pipes) > 1:
                    log.warning("%s: %s", self._names[number], message)
                elif isinstance(message, Exception):
                    raise message
                else:
                    if isinstance(message, Done):
                        self._dispatcher.done(number, message.shard)
                    yield number, message

    def close(self) -> None:
        """End the processes that still run."""
        for process in self._processes:
            process.terminate()
        for process in self._processes:
            process.join(LAST_SECONDS)
            if process.is_alive():
                process.kill()
                process.join()

    def _ended(self, number: int) -> None:
        process = self._processes[number]
        process.join(LAST_SECONDS)
        given_back = self._dispatcher.lost(number)
        if process.exitcode == 0 and self._dispatcher.finished:
            return
        found = f"{self._names[number]}: ended with exit code {process.exitcode}"
        if not self._pipes:
            raise StoppedError(f"{found}, and no other process is left; nothing was published; run again to continue")
        log.warning("%s; the others take over its %d shards", found, given_back)


def machines_of(machine: Machine) -> list[Machine]:
    """Return what each process may use. Raises UsageError where there is no device to name."""
    devices = list(machine.devices or ())
    if devices == ["all"]:
        import torch

        devices = [f"cuda:{number}" for number in range(torch.cuda.device_count())]
        if not devices:
            raise UsageError("--devices all: expected GPUs, found none; name them, or cpu,cpu for processes on the CPU")
    names = [f"cuda:{name}" if name.isdecimal() else name for name in devices]
    return [
        replace(machine, device=name, devices=None, workers=_workers(machine, name, len(names)), progress=False) for name in names
    ]


def _workers(machine: Machine, device: str, processes: int) -> int:
    """Return how many processes decode for one of these."""
    if machine.workers is not None:
        return machine.workers
    return max(choose_workers(device.partition(":")[0]) // processes, 1)


@contextmanager
def _few_threads(machines: Sequence[Machine]) -> Iterator[None]:
    """Let processes that compute on the CPU share its cores."""
    from joblib import cpu_count

    processes = sum(machine.device == "cpu" for machine in machines)
    before = os.environ.get(THREADS)
    if processes > 1 and before is None:
        os.environ[THREADS] = str(max(cpu_count() // processes, 1))
    try:
        yield
    finally:
        if before is None:
            os.environ.pop(THREADS, None)


def _main(make: MakeWorker, machine: Machine, pipe: Connection) -> None:
    """Tag shards; runs in a process of its own."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, shutdown.on_signal)
    parent = multiprocessing.parent_process()
    assert parent is not None
    threading.Thread(target=_end_with, args=(parent,), daemon=True).start()

    def ask() -> Answer:
        shutdown.check()
        pipe.send(None)
        answer: Answer = pipe.recv()
        return answer

    try:
        tag_what_is_asked(make, machine, ask, pipe.send)
    except (KeyboardInterrupt, EOFError, BrokenPipeError):  # the run is stopped, or has gone
        pass
    except TaggerError as error:
        with suppress(OSError):
            pipe.send(error)
    except Exception as error:  # noqa: BLE001  # whatever it is, the run says it
        with suppress(OSError):
            pipe.send(RuntimeError(f"{machine.device}: {type(error).__name__}: {first_line(error)}"))


def _end_with(parent: BaseProcess) -> None:
    """End this process when the run that it works for has gone; what it has committed stays."""
    parent.join()
    os._exit(StoppedError.exit_code)
