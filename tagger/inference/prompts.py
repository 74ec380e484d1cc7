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
        texts = list(dict.fromkeys(prompts))
        digests = [hashlib.sha256(text.encode()).digest() for text in texts]
        found = np.empty((len(texts), self._encoder.dimension), np.float32)
        with open_cache(self._folder, self._identity, dimension=found.shape[1], dtype=np.float32, limit=self._limit) as cache:
            known = cache.get(digests)
            found[known.places] = known.vectors
            new = np.setdiff1d(np.arange(len(texts)), known.places).tolist()
            if new:
                found[new] = self._encode([texts[place] for place in new])
            nothing = np.zeros(MEASURES, np.float32)
            cache.put({digests[place]: Embedding(found[place], nothing) for place in new}, {})
        place = {text: number for number, text in enumerate(texts)}
        return found[[place[prompt] for prompt in prompts]]

    def _encode(self, prompts: Sequence[str]) -> NDArray[np.float32]:
        return np.asarray(self._encoder.encode_prompts(prompts).cpu())
