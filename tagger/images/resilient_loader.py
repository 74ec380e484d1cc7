"""Batches of pixels whatever happens to the processes that decode: a dead worker costs the image that killed it."""

from __future__ import annotations

import logging
import signal
from collections import deque
from collections.abc import Container, Iterable, Iterator, Sequence
from functools import partial

import numpy as np
import torch

from tagger.core.errors import ImageError, StoppedError
from tagger.core.types import Busy, ImageBatch, ImagePolicy, ImageRef, Preprocessing
from tagger.images.loader import ImageLoader, WorkerDeathError

log = logging.getLogger(__name__)

DEATHS = 3  # in a row, of processes that had but this image to decode; one or two may have been anybody's doing
START_DEATHS = 5  # in a row, of processes that had nothing to do yet


def load_images(
    batches: Iterable[list[ImageRef]],
    *,
    policy: ImagePolicy,
    preprocessings: Sequence[Preprocessing],
    known: Container[bytes],
    workers: int,
    start_method: str,
) -> Iterator[ImageBatch]:
    """Read and decode batches of references, in order, as ImageLoader does, and go on when a worker dies.

    Its batches, and those on their way beside it, are decoded once more, image by image, in a process of their own; an image
    that ends it becomes an error: timeout (longer than the policy's), crashed. Without workers nothing protects this
    process. Raises StoppedError where processes die that were given nothing to decode.
    """
    loader = partial(ImageLoader, policy=policy, preprocessings=preprocessings, known=known, start_method=start_method)
    source = iter(batches)
    taken: deque[list[ImageRef]] = deque()  # by the loader, and not delivered yet

    def remembered() -> Iterator[list[ImageRef]]:
        for batch in source:
            taken.append(batch)
            yield batch

    said = False
    while True:
        try:
            for images in loader(remembered(), workers=workers):
                taken.popleft()
                yield images
            return
        except WorkerDeathError as death:
            log.log(logging.DEBUG if said else logging.WARNING, "a decoding process %s; going on with another", death)
            said = True
        while taken:
            yield _one_by_one(taken.popleft(), loader, policy.timeout)


def _one_by_one(refs: list[ImageRef], loader: partial[ImageLoader], timeout: float) -> ImageBatch:
    """Decode each of these images alone, in a process that is replaced when it dies."""
    batches: list[ImageBatch] = []
    waiting = deque(refs)
    deaths = {True: 0, False: 0}  # of processes that had started, and of those that had not
    while waiting:
        started = False
        try:
            # First nothing at all, to tell a process that cannot live from an image that kills it.
            for images in loader([[], *([ref] for ref in waiting)], workers=1, prefetch=1):
                if started:
                    waiting.popleft()
                    batches.append(images)
                    deaths[True] = 0
                started, deaths[False] = True, 0
        except WorkerDeathError as death:
            deaths[started] += 1
            reason, code = str(death), death.code
        else:
            continue
        if deaths[False] == START_DEATHS:
            raise StoppedError(
                f"decoding processes: expected them to live, found {START_DEATHS} that died before their first image: the last "
                f"{reason}; free memory, or decode without them (--workers 0), and run again to continue"
            )
        if started and (deaths[True] == DEATHS or code == -signal.SIGALRM):
            row = waiting.popleft().row
            error = ImageError("crashed", f"the process that decoded it {reason}")
            if code == -signal.SIGALRM:
                error = ImageError("timeout", f"took longer than {timeout:g} s")
            batches.append(ImageBatch(np.empty(0, np.int64), (), (), {row: error}))
            deaths[True] = 0
    return _join(batches)


def _join(batches: list[ImageBatch]) -> ImageBatch:
    decoded = [batch.pixels for batch in batches if len(batch.rows)]
    return ImageBatch(
        rows=np.concatenate([np.empty(0, np.int64), *(batch.rows for batch in batches)]),
        pixels=tuple(torch.cat(same) for same in zip(*decoded, strict=True)),
        digests=tuple(digest for batch in batches for digest in batch.digests),
        errors={row: error for batch in batches for row, error in batch.errors.items()},
        known={row: digest for batch in batches for row, digest in batch.known.items()},
        versions={row: version for batch in batches for row, version in batch.versions.items()},
        busy=Busy.total(batch.busy for batch in batches),
    )
