"""Prompts -> embeddings, each encoded once: they are kept beside those of images."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from importlib.metadata import version

import numpy as np
from numpy.typing import NDArray

from tagger.encoders.base import PromptEncoder
from tagger.inference.store import Store

COMPUTING = ("tagger", "torch", "transformers")  # whose versions may move the last digits


class PromptEmbeddings:
    """Embeds prompts, or knows what they were. store: where they are kept."""

    def __init__(self, encoder: PromptEncoder, store: Store) -> None:
        self._encoder, self._store = encoder, store
        versions = " ".join(f"{library} {version(library)}" for library in COMPUTING)
        self._identity = f"prompts of {encoder.weights} on {encoder.device_type} by {versions}"

    def __call__(self, prompts: Sequence[str]) -> NDArray[np.float32]:
        """Return float32 (P, D), L2-normalised. ConfigError for a prompt longer than the model reads."""
        digests = [hashlib.sha256(prompt.encode()).digest() for prompt in prompts]
        with self._store.open(self._identity) as cache:
            if cache is None:
                return self._encode(prompts)
            known = cache.find(digests)
            new = {digest: prompt for digest, prompt in zip(digests, prompts, strict=True) if digest not in known}
            encoded = self._encode(list(new.values())) if new else ()
            kept = {digest: vector.tobytes() for digest, vector in zip(new, encoded, strict=True)}
            cache.keep(kept)
        known |= kept
        return np.stack([np.frombuffer(known[digest], np.float32) for digest in digests])

    def _encode(self, prompts: Sequence[str]) -> NDArray[np.float32]:
        return np.asarray(self._encoder.encode_prompts(prompts).cpu())
