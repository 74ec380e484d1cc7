"""Some images of a manifest: drawn evenly, to quantise a model with, or its first, to try a precision on."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import islice

import numpy as np
import pyarrow as pa
from torch import Tensor

from tagger.catalog.manifest import Manifest, Shard, image_refs
from tagger.engines.local import LocalEngine
from tagger.engines.workers import start_method
from tagger.errors import ModelError
from tagger.images.survival import load_images
from tagger.types import ImagePolicy, ImageRef, Preprocessing

DRAWN = 320  # NNCF's default is 300; whole batches of 32
TRIED = 16  # half of what is encoded at once: fp32 takes twice as long, and a short run would notice
TIE = 0.02  # of confidence, which a precision may cost (issue 4): labels that are nearer each other than that may change places
BATCH_SIZE = 32


def draw_images(manifest: Manifest, rows: int, policy: ImagePolicy, preprocessing: Preprocessing) -> Iterator[Tensor]:
    """uint8 (B, 3, H, W), of up to DRAWN of the first `rows` rows; images that cannot be read are left out."""
    drawn = np.unique(np.linspace(0, rows - 1, min(DRAWN, rows)).astype(np.int64))

    def refs() -> Iterator[ImageRef]:
        shards = [shard for shard in manifest.shards(rows) if ((drawn >= shard.start) & (drawn < shard.stop)).any()]
        for shard, table in manifest.read(shards):
            references = image_refs(table, manifest.image_column, shard.start)
            yield from (references[row - shard.start] for row in drawn if shard.start <= row < shard.stop)

    source = refs()
    batches = iter(lambda: list(islice(source, BATCH_SIZE)), [])
    loaded = load_images(batches, policy=policy, preprocessings=[preprocessing], known=(), workers=1, start_method=start_method())
    yield from (batch.pixels[0] for batch in loaded if len(batch.rows))


def disagreements(
    manifest: Manifest,
    rows: int,
    schema: pa.Schema,
    engine: LocalEngine,
    reference: LocalEngine,
    advance: Callable[[int], object],
) -> int:
    """How many decisions about the first images are others than the reference's, near ties left out.

    schema: of results. advance: called with numbers of rows, as they are read. What either engine encodes for this, it knows
    afterwards. Where the reference works and the other engine's embeddings are no numbers, all decisions differ.
    """
    ((_, wanted),) = reference.tag(manifest, schema, [Shard(0, 0, min(TRIED, rows))], advance)
    whole = max(TRIED, engine.predictor.at_once)  # a piece: what is beyond those tried is wanted next
    try:
        ((_, found),) = engine.tag(manifest, schema, [Shard(0, 0, min(whole, rows))], advance)
    except ModelError:
        return len(wanted) * len(engine.predictor.attributes)
    differ = 0
    for name in (attribute.name for attribute in engine.predictor.attributes):
        labels = found[f"{name}_label"][: len(wanted)].to_pylist()
        for label, top in zip(labels, wanted[f"{name}_top"].to_pylist(), strict=True):
            if label is not None:
                confidence = next((item["confidence"] for item in top if item["label"] == label), -1.0)
                differ += top[0]["confidence"] - confidence > TIE
    return differ
