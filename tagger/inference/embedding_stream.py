"""Images -> embeddings: each is looked up, or encoded once, in pieces of the encoder's own size."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from tagger.cache.embedding_cache import Embedding, EmbeddingCache
from tagger.inference.predictor import Embeddings, Predictor

if TYPE_CHECKING:  # a night that encodes nothing waits for no torch
    from torch import Tensor

COMMIT_SECONDS = 10.0  # of encoding that a killed run may lose

Arrival = Callable[[Embedding], object]  # called once, with the one embedding that was asked for


@dataclass
class _Piece:
    """Images that are encoded together, by digest, with whoever waits for them, and the measures of their pictures."""

    pixels: Tensor
    measures: dict[bytes, NDArray[np.float32]] = field(default_factory=dict)
    waiting: dict[bytes, list[Arrival]] = field(default_factory=dict)


class EmbeddingStream:
    """Gives each image's embedding to whoever asked for it, as soon as a piece is full or `flush` is called.

    An image that comes again, in this run or in an earlier one, is not encoded again. Embeddings and files are committed to
    the cache by `commit`, and now and then meanwhile. `encoded_images` counts what went through the encoder, `seconds` what
    that took.
    """

    def __init__(self, predictor: Predictor, cache: EmbeddingCache) -> None:
        self.cache, self._predictor = cache, predictor
        self.encoded_images, self.seconds = 0, 0.0
        self._committed = time.perf_counter()
        self._buffers: list[Tensor] = []
        self._filling: _Piece | None = None
        self._begun: tuple[_Piece, Callable[[], Embeddings]] | None = None
        self._new: dict[bytes, Embedding] = {}
        self._files: dict[bytes, tuple[bytes, bytes]] = {}

    def find(self, digest: bytes, arrived: Arrival) -> bool:
        """Return whether this image's embedding is there, or on its way: then `arrived` gets it."""
        for piece in (self._filling, self._begun and self._begun[0]):
            if piece is not None and digest in piece.waiting:
                piece.waiting[digest].append(arrived)
                return True
        if digest not in self._new:
            kept = self.cache.get([digest])
            if not len(kept.places):
                return False
            arrived(Embedding(kept.vectors[0], kept.measures[0]))
        else:
            arrived(self._new[digest])
        return True

    def encode(self, digest: bytes, pixels: Tensor, measures: NDArray[np.float32], arrived: Arrival) -> None:
        """Encode uint8 (3, H, W), now or with others, and call `arrived` with the embedding and these measures."""
        if self._filling is None:
            self._filling = _Piece(self._buffer(pixels))
        piece = self._filling
        piece.pixels[len(piece.waiting)] = pixels
        piece.waiting[digest] = [arrived]
        piece.measures[digest] = measures
        if len(piece.waiting) >= self._predictor.at_once:
            self._begin()

    def flush(self) -> None:
        """Encode all images that wait, however few they are."""
        if self._filling is not None:
            self._begin()
        self._finish()

    def remember_file(self, name: bytes, version: bytes, digest: bytes) -> None:
        """Keep, from the next commit on, that this version of a file has these bytes."""
        self._files[name] = (version, digest)

    def commit(self) -> None:
        """Write new embeddings and files to the cache."""
        self.cache.put({} if self._predictor.lacks_memory else self._new, self._files)
        self._new, self._files = {}, {}
        self._committed = time.perf_counter()

    def _buffer(self, like: Tensor) -> Tensor:
        """Return where to gather a piece: one buffer while another is on its way to the accelerator, which copies from locked
        pages."""
        import torch

        if self._buffers:
            return self._buffers.pop()
        on_cuda = self._predictor.encoder.device_type == "cuda"
        return torch.empty((self._predictor.at_once, *like.shape), dtype=torch.uint8, pin_memory=on_cuda)

    def _begin(self) -> None:
        piece, self._filling = self._filling, None
        assert piece is not None
        began = time.perf_counter()
        wait = self._predictor.encode(piece.pixels[: len(piece.waiting)])
        self.seconds += time.perf_counter() - began
        self.encoded_images += len(piece.waiting)
        self._finish()
        self._begun = piece, wait
        if self._predictor.encoder.device_type == "cpu":  # nothing goes on beside this
            self._finish()

    def _finish(self) -> None:
        if self._begun is None:
            return
        began = time.perf_counter()
        (piece, wait), self._begun = self._begun, None
        vectors = wait()
        self.seconds += time.perf_counter() - began
        self._buffers.append(piece.pixels)
        for vector, (digest, arrivals) in zip(vectors, piece.waiting.items(), strict=True):
            self._new[digest] = embedding = Embedding(vector, piece.measures[digest])
            for arrived in arrivals:
                arrived(embedding)
        if time.perf_counter() - self._committed > COMMIT_SECONDS:
            self.commit()
