"""The value types that cross from one stage to another."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from tagger.core.errors import ImageError

if TYPE_CHECKING:  # what `tagger --help` imports waits for none of these
    import numpy as np
    import torch
    from numpy.typing import NDArray


@dataclass(frozen=True, slots=True)
class ImageRef:
    """Where one manifest row's image is: embedded bytes, else a path; neither when the manifest has null.

    `row` is the row's number in the manifest, from 0. `decode`: even if the embedding of its bytes is known. `version`: what
    a server calls these bytes; with `digest`, what it called the bytes of that SHA-256 when they were read last.
    """

    row: int
    path: str | None = None
    data: bytes | None = None
    decode: bool = False
    version: str = ""
    digest: bytes = b""


BATCH_SIZE = 32  # images that are read together, where nobody says otherwise

FORMATS = ("JPEG", "PNG", "WEBP")
# What may be allowed beside them. Not EPS, which runs a program, nor rare formats whose decoders few people look after.
MORE_FORMATS = ("AVIF", "BMP", "GIF", "ICO", "JPEG2000", "PPM", "TGA", "TIFF")


@dataclass(frozen=True, slots=True, kw_only=True)
class ImagePolicy:
    """Which images a run may read, and how much of its time and memory one of them may take.

    roots: absolute, resolved folders; relative paths start at the first. formats: Pillow's names. timeout: seconds for one
    image. hosts: of https:// references, "cdn.example.com", with the port where it is not 443. buckets: of the object stores:
    "s3://photos", "gs://photos", "az://photos". private_networks: ranges (CIDR) of addresses that are not public and may be
    reached all the same.
    """

    roots: tuple[Path, ...]
    formats: tuple[str, ...] = FORMATS
    timeout: float = 60.0
    hosts: tuple[str, ...] = ()
    buckets: tuple[str, ...] = ()
    private_networks: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Preprocessing:
    """How an encoder wants its pixels, as its checkpoint says.

    `resize` is the short side, or (height, width); `crop` (height, width) from the centre, None for no crop.
    `resample` is Pillow's number of the filter. `mean` and `std` are per channel, of values scaled by `rescale`. `exact`: with
    the very arithmetic of the checkpoint's own image processor, not only nearly so and faster.
    """

    resize: int | tuple[int, int]
    crop: tuple[int, int] | None
    resample: int
    rescale: float
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    exact: bool = False

    @property
    def size(self) -> tuple[int, int]:
        """Height and width of what comes out."""
        if self.crop is not None:
            return self.crop
        return self.resize if isinstance(self.resize, tuple) else (self.resize, self.resize)

    @property
    def shorter_side(self) -> int:
        """Of the picture after the resize, the longer one where its shape does not matter."""
        return self.resize if isinstance(self.resize, int) else max(self.resize)


class Busy(NamedTuple):
    """Seconds of work, added up over all processes that share it."""

    read: float = 0.0
    decode: float = 0.0

    @classmethod
    def total(cls, parts: Iterable[Busy]) -> Busy:
        """Add up the seconds of several pieces of work."""
        return cls(*(sum(seconds) for seconds in zip(cls(), *parts, strict=True)))


@dataclass(frozen=True, slots=True)
class ImageBatch:
    """The images of some manifest rows, in order; a row is in `rows`, `known` or `errors`, and none is lost.

    rows: int64 (N,), the rows that decoded. pixels: by the name of each preprocessing uint8 (N, 3, H, W), resized and cropped,
    not yet normalised; no names where N is 0. digests: of the bytes that those N images were, SHA-256. errors: row -> why its
    image cannot be tagged. known: row -> digest of an image that was not decoded, because its embedding is there. versions:
    row -> what a server called the bytes that it sent. busy: seconds that reading and decoding took.
    """

    rows: NDArray[np.int64]
    pixels: Mapping[str, torch.Tensor]
    digests: tuple[bytes, ...]
    errors: dict[int, ImageError] = field(default_factory=dict)
    known: dict[int, bytes] = field(default_factory=dict)
    versions: dict[int, str] = field(default_factory=dict)
    busy: Busy = field(default_factory=Busy)


@dataclass(frozen=True, slots=True)
class Decision:
    """What one attribute's head says of N images.

    top: int64 (N, k), indices of the attribute's labels, best first. confidence: float32 (N, k), their probabilities.
    review: for each image, why a person should look at it, or None. source: str (N,), who decided about each: "clip",
    "resnet18" or "hybrid".
    """

    top: NDArray[np.int64]
    confidence: NDArray[np.float32]
    review: tuple[str | None, ...]
    source: NDArray[np.str_]
