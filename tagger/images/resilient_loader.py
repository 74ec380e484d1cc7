"""Batches of pixels whatever happens to the processes that decode: a dead worker costs the image that killed it."""

from __future__ import annotations

import logging
import resource
import signal
from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import replace

import numpy as np
import torch

from tagger.core.errors import ImageError, StoppedError
from tagger.core.types import MEASURES, Busy, ImageBatch, ImageRef
from tagger.images.loader import CANNOT_SEND, ImageLoader, WorkerDeathError
from tagger.images.reading import Reading

log = logging.getLogger(__name__)

DEATHS = 3  # in a row, of processes that had only this image to decode; one or two may have another cause
START_DEATHS = 5  # in a row, of processes that had nothing to decode yet


def load_images(batches: Iterable[list[ImageRef]], reading: Reading) -> Iterator[ImageBatch]:
    """Read and decode batches of references, in order, as ImageLoader does, and go on when a worker dies.

    For each batch that is taken, one comes, in the same order. The batches of a worker that dies, and those on their way beside
    it, are decoded once more, image by image, in a process of their own; an image that ends it becomes an error: timeout
    (longer than the policy's), crashed. Without workers nothing protects this process. Raises StoppedError where processes die
    that were given nothing to decode.
    """
    source = iter(batches)
    taken: deque[list[ImageRef]] = deque()  # by the loader, and not delivered yet

    def remembered() -> Iterator[list[ImageRef]]:
        for batch in source:
            taken.append(batch)
            yield batch

    warned = False
    while True:
        try:
            for images in ImageLoader(remembered(), reading):
                taken.popleft()
                yield images
            return
        except WorkerDeathError as death:
            _require_sending(death)
            log.log(logging.DEBUG if warned else logging.WARNING, "a decoding process %s; going on with another", death)
            warned = True
        while taken:
            yield _one_by_one(taken.popleft(), reading)


def _one_by_one(refs: list[ImageRef], reading: Reading) -> ImageBatch:
    """Decode each of these images alone, in a process that is replaced when it dies."""
    batches: list[ImageBatch] = []
    waiting = deque(refs)
    start_deaths = image_deaths = 0  # in a row, of processes that had nothing to do yet, and of those that had the next image
    while waiting:
        started = False
        try:
            # First nothing at all, to tell a process that cannot live from an image that kills it.
            for images in ImageLoader([[], *([ref] for ref in waiting)], replace(reading, workers=1), prefetch=1):
                if started:
                    waiting.popleft()
                    batches.append(images)
                    image_deaths = 0
                started, start_deaths = True, 0
        except WorkerDeathError as death:
            _require_sending(death)
            if started:
                image_deaths += 1
            else:
                start_deaths += 1
            reason, code = str(death), death.code
        else:
            continue
        if start_deaths == START_DEATHS:
            raise StoppedError(
                f"decoding processes: expected them to live, found {START_DEATHS} that died before their first image: the last "
                f"{reason}; free memory, or decode without them (--workers 0), and run again to continue"
            )
        if started and (image_deaths == DEATHS or code == -signal.SIGALRM):
            row = waiting.popleft().row
            error = ImageError("crashed", f"the process that decoded it {reason}")
            if code == -signal.SIGALRM:
                error = ImageError("timeout", f"took longer than {reading.policy.timeout:g} s")
            batches.append(ImageBatch(np.empty(0, np.int64), {}, (), np.empty((0, MEASURES), np.float32), {row: error}))
            image_deaths = 0
    return _join(batches)


def _require_sending(death: WorkerDeathError) -> None:
    """Raise StoppedError where a process died because it could not send what it had decoded: no image is to blame for that."""
    if death.code == CANNOT_SEND:
        limit = resource.getrlimit(resource.RLIMIT_FSIZE)[0]
        found = "a full /dev/shm, or too few open files allowed"
        if limit != resource.RLIM_INFINITY:
            found = f"a limit of {limit:,} bytes a file (ulimit -f)"
        raise StoppedError(
            f"decoding processes: expected to send images through shared memory, found that the system refuses it: {found}; "
            "raise it, or decode without them (--workers 0), and run again to continue"
        )


def _join(batches: list[ImageBatch]) -> ImageBatch:
    decoded = [batch.pixels for batch in batches if len(batch.rows)]
    names = decoded[0] if decoded else ()
    return ImageBatch(
        rows=np.concatenate([np.empty(0, np.int64), *(batch.rows for batch in batches)]),
        pixels={name: torch.cat([pixels[name] for pixels in decoded]) for name in names},
        digests=tuple(digest for batch in batches for digest in batch.digests),
        errors={row: error for batch in batches for row, error in batch.errors.items()},
        refused={row: digest for batch in batches for row, digest in batch.refused.items()},
        known={row: digest for batch in batches for row, digest in batch.known.items()},
        versions={row: version for batch in batches for row, version in batch.versions.items()},
        measures=np.concatenate([np.empty((0, MEASURES), np.float32), *(batch.measures for batch in batches)]),
        busy=Busy.total(batch.busy for batch in batches),
    )
