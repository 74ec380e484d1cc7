"""The trial of a precision, whatever becomes of the images meanwhile."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack, closing
from pathlib import Path

from tagger.cache.byte_cache import ByteCache
from tagger.cache.embedding_cache import EmbeddingCache
from tagger.catalog.manifest import open_manifest
from tagger.catalog.schemas import result_schema
from tagger.core.types import ImagePolicy
from tagger.images.reading import Reading
from tagger.inference.bad_images import BadImages
from tagger.inference.local_engine import LocalEngine, preprocessings_of
from tagger.inference.precision_trial import disagreements
from tagger.inference.predictor import Predictor


def make_engine(predictor: Predictor, images: Path, cache: Path, stack: ExitStack) -> LocalEngine:
    dimension, dtype = predictor.encoder.dimension, predictor.dtype
    embeddings = EmbeddingCache(cache, "sample", dimension=dimension, dtype=dtype, limit=1 << 30)
    errors = ByteCache(cache, "errors", limit=1 << 30)
    policy = ImagePolicy(roots=(images.resolve(),))
    reading = Reading(policy=policy, preprocessings=preprocessings_of(predictor, None), workers=0)
    stack.enter_context(closing(embeddings))
    stack.enter_context(closing(errors))
    return LocalEngine(predictor, embeddings, reading, batch_size=4, bad_images=BadImages(errors))


def test_an_image_that_only_one_of_them_could_read_is_no_disagreement(
    predictor: Predictor, pictures: Path, tmp_path: Path, write_manifest: Callable[..., Path]
):
    """As where a server fails for the one, and answers the other."""
    late, early = tmp_path / "0000.png", tmp_path / "0001.png"
    early.write_bytes((pictures / early.name).read_bytes())
    manifest = open_manifest(str(write_manifest([late.name, early.name])))
    schema = result_schema(manifest.schema, ["category"], {})
    rows: list[int] = []

    def swap(count: int) -> None:
        """Between the two: the image that was missing is there, and the other one is not."""
        rows.append(count)
        if sum(rows) == 2:
            late.write_bytes((pictures / late.name).read_bytes())
            early.unlink()

    with ExitStack() as stack:
        engine, reference = (make_engine(predictor, tmp_path, tmp_path / name, stack) for name in ("engine", "reference"))
        assert disagreements(manifest, 2, schema, engine, reference, swap) == 0
    assert sum(rows) == 4
    assert (late.exists(), early.exists()) == (True, False)
