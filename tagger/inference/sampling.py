"""A manifest -> some of its images, drawn evenly, to quantise a model with."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice
from typing import TYPE_CHECKING

import numpy as np

from tagger.catalog.manifest import Manifest
from tagger.core.types import BATCH_SIZE, ImagePolicy, ImageRef, Preprocessing
from tagger.images.reading import Reading

if TYPE_CHECKING:
    from torch import Tensor

DRAWN = 320  # NNCF's default is 300; whole batches of 32


def draw_images(manifest: Manifest, rows: int, policy: ImagePolicy, preprocessing: Preprocessing) -> Iterator[Tensor]:
    """Yield uint8 (B, 3, H, W) of up to DRAWN of the first `rows` rows, leaving out images that cannot be read."""
    from tagger.images.resilient_loader import load_images

    drawn = np.unique(np.linspace(0, rows - 1, min(DRAWN, rows)).astype(np.int64))

    def refs() -> Iterator[ImageRef]:
        shards = [shard for shard in manifest.shards(rows) if ((drawn >= shard.start) & (drawn < shard.stop)).any()]
        for shard, table in manifest.read(shards):
            references = manifest.image_refs(table, shard.start)
            yield from (references[row - shard.start] for row in drawn if shard.start <= row < shard.stop)

    source = refs()
    batches = iter(lambda: list(islice(source, BATCH_SIZE)), [])
    reading = Reading(policy=policy, preprocessings={"pixels": preprocessing}, workers=1)
    yield from (batch.pixels["pixels"] for batch in load_images(batches, reading) if len(batch.rows))
