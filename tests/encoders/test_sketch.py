"""Sketches of embeddings."""

from __future__ import annotations

import numpy as np

from tagger.encoders.sketch import SKETCH, sketch


def test_a_sketch_keeps_distances() -> None:
    embeddings = np.random.default_rng(0).standard_normal((200, 512)).astype(np.float32)
    embeddings /= np.linalg.norm(embeddings, axis=1, keepdims=True)
    first, second = embeddings[:100], embeddings[100:]
    sketches = sketch(embeddings).astype(np.float32)
    ratio = np.linalg.norm(sketches[:100] - sketches[100:], axis=1) / np.linalg.norm(first - second, axis=1)
    assert sketches.shape == (200, SKETCH)
    assert 0.6 < ratio.min() < ratio.max() < 1.4


def test_the_same_embedding_has_the_same_sketch_in_any_company() -> None:
    embeddings = np.random.default_rng(0).standard_normal((64, 128)).astype(np.float16)
    assert np.array_equal(sketch(embeddings)[7], sketch(embeddings[7:8])[0])


def test_no_embeddings_have_no_sketches() -> None:
    assert sketch(np.empty((0, 512), np.float16)).shape == (0, SKETCH)
