"""DataLoaders from batches of references to batches of pixels, in order, with the bad images kept as errors."""

from __future__ import annotations

import hashlib
import multiprocessing
import multiprocessing.queues
import os
import resource
import signal
import threading
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from multiprocessing.connection import wait
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch.utils.data import DataLoader, Dataset, get_worker_info

from tagger.core import shutdown
from tagger.core.errors import ImageError
from tagger.core.memory import keep_freed_memory, limit_address_space
from tagger.core.types import MEASURES, Busy, ImageBatch, ImageRef
from tagger.images.prefetch import fetch_ahead
from tagger.images.quality import measure
from tagger.images.reading import Reading
from tagger.images.sources import read_bytes
from tagger.images.workers import without_main

NICENESS = 10  # of decoding processes: an encoder whose threads wait for each other must not wait for one that decodes
WORKER_MEMORY = 3 << 30  # bytes of address space for one image: MAX_PIXELS of 16 bits pass through as int64
CANNOT_SEND = 75  # exit status of a decoding process that cannot hand over what it has decoded
CHECK_SECONDS = 0.25  # how often a loader looks whether its workers live


class _Item(NamedTuple):
    """What became of one reference: pixels and digest, a digest alone of an image that is known, or an error.

    An error with a digest is one of these bytes, whenever they are decoded.
    """

    row: int
    pixels: dict[str, torch.Tensor] | None = None
    digest: bytes = b""
    version: str = ""
    measures: NDArray[np.float32] | None = None
    error: ImageError | None = None
    busy: Busy = Busy()


class WorkerDeathError(Exception):
    """A decoding process is gone; `code` is its exit status, negative for the signal that ended it."""

    def __init__(self, code: int) -> None:
        super().__init__(code)
        self.code = code

    def __str__(self) -> str:
        return f"was ended by {signal.Signals(-self.code).name}" if self.code < 0 else f"exited with status {self.code}"


class ImageDataset(Dataset[_Item]):
    """Indexed by the references themselves: it holds no list that workers would copy page by page as they touch it."""

    def __init__(self, reading: Reading) -> None:
        self.policy, self.preprocessings, self.known = reading.policy, reading.preprocessings, reading.known

    def __getitems__(self, refs: Sequence[ImageRef]) -> list[_Item]:
        # Bytes that must be decoded are fetched, whether their version is known or not.
        refs = [replace(ref, digest=b"") if ref.digest and self._must_decode(ref, ref.digest) else ref for ref in refs]
        fetched = zip(refs, fetch_ahead(refs, self.policy), strict=True)
        return [_Item(ref.row, error=found) if isinstance(found, ImageError) else self[found] for ref, found in fetched]

    def _must_decode(self, ref: ImageRef, digest: bytes) -> bool:
        return ref.decode or digest not in self.known

    def __getitem__(self, ref: ImageRef) -> _Item:
        if ref.digest:  # it has not changed, says its server
            return _Item(ref.row, digest=ref.digest)
        # Imports torchvision, which only the processes that decode have to wait for.
        from tagger.images.decode import decode_for, resize

        # Nothing can interrupt a decoder in C but the end of its process, so the alarm of a worker ends it.
        alone = get_worker_info() is not None
        if alone:
            signal.setitimer(signal.ITIMER_REAL, self.policy.timeout)
        began, digest = time.perf_counter(), b""
        try:
            data = read_bytes(ref, self.policy)
            digest = hashlib.sha256(data).digest()
            read, working = time.perf_counter() - began, time.thread_time()  # it may have to wait for a core
            pixels, measures = None, None
            if self._must_decode(ref, digest):
                picture = decode_for(data, self.policy.formats, self.preprocessings)
                pixels = resize(picture, self.preprocessings)
                measures = measure(picture, next(iter(pixels.values())))
            return _Item(ref.row, pixels, digest, ref.version, measures, busy=Busy(read, time.thread_time() - working))
        except ImageError as error:
            spent = Busy(time.perf_counter() - began)
            return _Item(ref.row, digest=digest, version=ref.version, error=error.with_traceback(None), busy=spent)
        except (MemoryError, RuntimeError) as error:
            if isinstance(error, RuntimeError) and "can't allocate memory" not in str(error):  # how torch says it
                raise
            return _Item(ref.row, error=ImageError("out-of-memory", "decoding it takes more memory than one image may use"))
        finally:
            if alone:
                signal.setitimer(signal.ITIMER_REAL, 0)


def collate(items: Sequence[_Item]) -> ImageBatch:
    """Join the items into one batch."""
    images = {item.row: item.pixels for item in items if item.pixels is not None}
    first = next(iter(images.values()), {})
    # Names that want the same pixels share them here, too: they travel to the main process once.
    names = {id(pixels): name for name, pixels in first.items()}
    shared = {twins: torch.stack([image[name] for image in images.values()]) for twins, name in names.items()}
    return ImageBatch(
        rows=np.array(list(images), np.int64),
        pixels={name: shared[id(pixels)] for name, pixels in first.items()},
        digests=tuple(item.digest for item in items if item.pixels is not None),
        errors={item.row: item.error for item in items if item.error is not None},
        refused={item.row: item.digest for item in items if item.error is not None and item.digest},
        known={item.row: item.digest for item in items if item.pixels is None and item.error is None},
        versions={item.row: item.version for item in items if item.version},
        measures=np.array([item.measures for item in items if item.measures is not None], np.float32).reshape(-1, MEASURES),
        busy=Busy.total(item.busy for item in items),
    )


class ImageLoader:
    """Reads and decodes batches of references, in the order they came.

    The references travel to the workers batch by batch, so memory does not grow with the manifest. Each worker has
    `prefetch` batches to do. An image whose digest is known, asked in the workers, is not decoded, and not fetched if its
    server says that the reference still leads to the version of that digest. Iterating raises WorkerDeathError.
    """

    def __init__(self, batches: Iterable[list[ImageRef]], reading: Reading, prefetch: int = 2) -> None:
        helped: dict[str, Any] = {
            "prefetch_factor": prefetch,
            "multiprocessing_context": reading.start_method,
            "timeout": CHECK_SECONDS,
            "worker_init_fn": _prepare_worker,
        }
        self._loader = DataLoader(
            ImageDataset(reading),
            batch_sampler=batches,
            collate_fn=collate,
            num_workers=reading.workers,
            **(helped if reading.workers else {}),
        )

    def __iter__(self) -> Iterator[ImageBatch]:
        # Interrupted among its workers, torch's iterator would leave some of them, and print a traceback from its destructor.
        with shutdown.held(), without_main():
            batches: Any = iter(self._loader)
        processes = getattr(batches, "_workers", [])
        while True:
            try:
                batch = next(batches)
            except StopIteration:
                return
            # A worker's end shows as a RuntimeError, or as the broken connection over which its last batch was to come.
            except (RuntimeError, OSError, EOFError) as error:
                late = str(error).startswith("DataLoader timed out")
                wait([process.sentinel for process in processes], timeout=0 if late else 1)
                dead = [process.exitcode for process in processes if not process.is_alive()]
                if not dead and not late:
                    raise
            else:
                yield batch
                continue
            if dead:
                raise WorkerDeathError(dead[0])


def _prepare_worker(worker: int) -> None:
    # Ctrl-C reaches the whole process group; the main process ends the workers, which print no traceback of their own.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with_the_run, daemon=True).start()
    os.nice(NICENESS)
    keep_freed_memory()
    # The main process reports what matters: no remarks of libjpeg's, and a decoder's crash without a message or a core file.
    os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
    for number in (signal.SIGSEGV, signal.SIGBUS, signal.SIGFPE, signal.SIGALRM):
        signal.signal(number, signal.SIG_DFL)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    limit_address_space(WORKER_MEMORY)
    # Batches travel through files in memory, which the system may refuse; the queue would lose them, and the run would wait.
    multiprocessing.queues.Queue._on_queue_feeder_error = staticmethod(  # type: ignore[attr-defined]
        lambda error, batch: os._exit(CANNOT_SEND)
    )


def _end_with_the_run() -> None:
    # torch's own watch looks at the process that a worker was forked from. That is a server, which lives as long as the
    # workers do: after the main process was killed, they would wait for each other for ever.
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)
