"""A DataLoader from batches of references to batches of pixels, in order, with the bad images kept as errors."""

from __future__ import annotations

import signal
from collections.abc import Iterable, Iterator, Sequence

import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset

from tagger.errors import ImageError
from tagger.images.ahead import fetch_ahead
from tagger.images.decode import decode, to_pixels
from tagger.images.sources import read_bytes
from tagger.types import ImageBatch, ImagePolicy, ImageRef, Preprocessing

_Item = tuple[int, torch.Tensor | ImageError]


class ImageDataset(Dataset[_Item]):
    """Indexed by the references themselves: it holds no list that workers would copy page by page as they touch it."""

    def __init__(self, policy: ImagePolicy, preprocessing: Preprocessing) -> None:
        self.policy, self.preprocessing = policy, preprocessing

    def __getitems__(self, refs: Sequence[ImageRef]) -> list[_Item]:
        fetched = zip(refs, fetch_ahead(refs, self.policy), strict=True)
        return [(ref.row, found) if isinstance(found, ImageError) else self[found] for ref, found in fetched]

    def __getitem__(self, ref: ImageRef) -> _Item:
        try:
            return ref.row, to_pixels(decode(read_bytes(ref, self.policy), self.policy.formats), self.preprocessing)
        except ImageError as error:
            return ref.row, error.with_traceback(None)


def collate(items: Sequence[_Item]) -> ImageBatch:
    rows = [row for row, result in items if not isinstance(result, ImageError)]
    pixels = [result for _, result in items if not isinstance(result, ImageError)]
    errors = {row: result for row, result in items if isinstance(result, ImageError)}
    stacked = torch.stack(pixels) if pixels else torch.empty((0, 3, 0, 0), dtype=torch.uint8)
    return ImageBatch(np.array(rows, np.int64), stacked, errors)


def load_images(
    batches: Iterable[list[ImageRef]],
    *,
    policy: ImagePolicy,
    preprocessing: Preprocessing,
    workers: int,
    start_method: str,
    pin_memory: bool,
) -> Iterator[ImageBatch]:
    """Read and decode batches of references with `workers` processes (0: in this one), in the order they came.

    The references travel to the workers batch by batch, so memory does not grow with the manifest.
    """
    loader = DataLoader(
        ImageDataset(policy, preprocessing),
        batch_sampler=batches,
        collate_fn=collate,
        num_workers=workers,
        pin_memory=pin_memory,
        multiprocessing_context=start_method if workers else None,
        worker_init_fn=_ignore_interrupts,
    )
    return iter(loader)


def _ignore_interrupts(worker: int) -> None:
    # Ctrl-C reaches the whole process group; the main process ends the workers, which have nothing to say about it.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
