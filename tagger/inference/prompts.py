"""Prompts -> embeddings, each encoded once: they are kept beside those of images."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from tagger.core.types import MEASURES
from tagger.encoders.base import PromptEncoder
from tagger.encoders.embedding_cache import Embedding, open_cache

COMPUTING = ("tagger", "torch", "transformers")  # whose versions may move the last digits
AT_ONCE = 256  # prompts that are looked up, and kept, together


class PromptEmbeddings:
    """Embeds prompts, or knows what they were. folder: where they are kept; None: nowhere. limit: bytes of its file."""

    def __init__(self, encoder: PromptEncoder, folder: Path | None, limit: int) -> None:
        self._encoder, self._folder, self._limit = encoder, folder, limit
        versions = " ".join(f"{library} {version(library)}" for library in COMPUTING)
        self._identity = f"prompts of {encoder.weights} on {encoder.device_type} by {versions}"

    def __call__(self, prompts: Sequence[str]) -> NDArray[np.float32]:
        """Return float32 (P, D), L2-normalised. ConfigError for a prompt longer than the model reads."""
        if self._folder is None:
            return self._encode(prompts)
        digests = [hashlib.sha256(prompt.encode()).digest() for prompt in prompts]
        dimension = self._encoder.dimension
        with open_cache(self._folder, self._identity, dimension=dimension, dtype=np.float32, limit=self._limit) as cache:
            known = cache.get(set(digests))
            new = {digest: prompt for digest, prompt in zip(digests, prompts, strict=True) if digest not in known}
            if new:
                encoded = zip(new, self._encode(list(new.values())), strict=True)
                known |= {digest: Embedding(vector, np.zeros(MEASURES, np.float32)) for digest, vector in encoded}
            cache.put({digest: known[digest] for digest in new}, {})
        return np.stack([known[digest].vector for digest in digests])

    def _encode(self, prompts: Sequence[str]) -> NDArray[np.float32]:
        return np.asarray(self._encoder.encode_prompts(prompts).cpu())
