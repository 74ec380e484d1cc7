"""A precision tried on the first images of a manifest: does it decide as fp32 does?"""

from __future__ import annotations

from collections.abc import Callable

import pyarrow as pa

from tagger.catalog.manifest import Manifest, Shard
from tagger.core.errors import ModelError
from tagger.inference.local_engine import LocalEngine

TRIED = 16  # half of what is encoded at once: fp32 takes twice as long, and a short run would notice
TIE = 0.02  # of confidence, which a precision may cost (issue 4): labels that are nearer each other than that may change places


def disagreements(
    manifest: Manifest,
    rows: int,
    schema: pa.Schema,
    engine: LocalEngine,
    reference: LocalEngine,
    advance: Callable[[int], object],
) -> int:
    """Return how many decisions about the first images differ from the reference's, near ties left out.

    schema: of results. advance: called with numbers of rows, as they are read. What either engine encodes for this, it knows
    afterwards. Where the reference works and the other engine's embeddings are no numbers, all decisions differ.
    """
    ((_, wanted, _),) = reference.tag(manifest, schema, [Shard(0, 0, min(TRIED, rows))], advance)
    whole = max(TRIED, engine.predictor.at_once)  # a piece: what is beyond those tried is wanted next
    try:
        ((_, found, _),) = engine.tag(manifest, schema, [Shard(0, 0, min(whole, rows))], advance)
    except ModelError:
        return len(wanted) * len(engine.predictor.attributes)
    differ = 0
    for name in (attribute.name for attribute in engine.predictor.attributes):
        labels = found[f"{name}_label"][: len(wanted)].to_pylist()
        for label, top in zip(labels, wanted[f"{name}_top"].to_pylist(), strict=True):
            if label is not None and top is not None:  # a server may fail for the one, and answer the other
                confidence = next((item["confidence"] for item in top if item["label"] == label), -1.0)
                differ += top[0]["confidence"] - confidence > TIE
    return differ
