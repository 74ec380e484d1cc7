"""What a run's time went into."""

from __future__ import annotations

import time
from dataclasses import dataclass, field, fields


@dataclass
class Stages:
    """Seconds and counts, which an engine adds up while it runs.

    read, decode: seconds of work on images, added up over the processes that share it; recall (reading the manifest, and what
    is known of its images), encode, fallback (its encoder), wait_for_images: of the main process. Images that were encoded,
    those that the fallback's encoder has seen, images with errors. began: before the first of it, by time.perf_counter.
    """

    began: float = field(default_factory=time.perf_counter)
    recall: float = 0.0
    read: float = 0.0
    decode: float = 0.0
    encode: float = 0.0
    fallback: float = 0.0
    wait_for_images: float = 0.0
    encoded_images: int = 0
    fallback_images: int = 0
    errors: int = 0

    def add(self, other: Stages) -> None:
        """Add up what another process has done."""
        for one in fields(self):
            if one.name != "began":
                setattr(self, one.name, getattr(self, one.name) + getattr(other, one.name))

    def seconds(self) -> dict[str, float]:
        """Return the seconds of each stage, by name."""
        names = ("recall", "read", "decode", "wait_for_images", "encode", *(("fallback",) if self.fallback else ()))
        return {name: getattr(self, name) for name in names}

    def busy(self, workers: int) -> dict[str, float]:
        """Return the seconds that each stage was at work, decoding divided by the processes that shared it."""
        decoder, encoder = (self.read + self.decode) / max(workers, 1), self.encode + self.fallback
        return {"recall": self.recall, "decoder": decoder, "encoder": encoder}
