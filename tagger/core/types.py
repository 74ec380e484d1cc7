"""Define the values that pass from one stage to another."""

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
    """The place of one manifest row's image: embedded bytes, else a path or URL; neither where the manifest has null.

    row: the row's number in the manifest, from 0. decode: decode it even if the embedding of its bytes is known. version: what
    a server calls these bytes; with `digest`, what it called the bytes of that SHA-256 when they were read last.
    """

    row: int
    path: str | None = None
    data: bytes | None = None
    decode: bool = False
    version: str = ""
    digest: bytes = b""


BATCH_SIZE = 32  # images that are read together by default

FORMATS = ("JPEG", "PNG", "WEBP")
# These may be allowed, too; not EPS, which runs a program, nor rare formats whose decoders few people look after.
MORE_FORMATS = ("AVIF", "BMP", "GIF", "ICO", "JPEG2000", "PPM", "TGA", "TIFF")


MEASURES = 6  # of a decoded picture: images/quality.py


@dataclass(frozen=True, slots=True, kw_only=True)
class QualityLimits:
    """What a picture has to be not to go to review; zeros, and 1 for `max_brightness`, admit every picture.

    min_side: pixels of the shorter side. min_aspect_ratio: the shorter side over the longer. min_brightness: of the brightest
    hundredth of the picture; max_brightness: of its darkest twentieth; both from 0 to 1. min_sharpness: images/quality.py.
    """

    min_side: int = 10
    min_aspect_ratio: float = 0.0
    min_brightness: float = 0.0
    max_brightness: float = 1.0
    min_sharpness: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class ImagePolicy:
    """The images that a run may read, the time that one of them may take, and what its picture has to be.

    roots: absolute, resolved folders; relative paths start at the first. formats: Pillow's names. timeout: seconds for one
    image. hosts: those of https:// references, "cdn.example.com", with the port where it is not 443. buckets: those of the
    object stores, "s3://photos", "gs://photos", "az://photos". private_networks: ranges (CIDR) of addresses that are not
    public and may be reached all the same.
    """

    roots: tuple[Path, ...]
    formats: tuple[str, ...] = FORMATS
    timeout: float = 60.0
    hosts: tuple[str, ...] = ()
    buckets: tuple[str, ...] = ()
    private_networks: tuple[str, ...] = ()
    quality: QualityLimits = QualityLimits()


@dataclass(frozen=True, slots=True, kw_only=True)
class Preprocessing:
    """The form in which an encoder wants its pixels, as its checkpoint says.

    resize: the short side, or (height, width). crop: (height, width) from the centre, None for no crop. resample: Pillow's
    number of the filter. mean, std: per channel, of values scaled by `rescale`. exact: with the very arithmetic of the
    checkpoint's own image processor, instead of nearly the same and faster.
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
        """Return the height and width of the pixels that come out."""
        if self.crop is not None:
            return self.crop
        return self.resize if isinstance(self.resize, tuple) else (self.resize, self.resize)

    @property
    def shorter_side(self) -> int:
        """Return the short side of the picture after the resize; its long side where it is resized to one fixed shape."""
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
    """The images of some manifest rows, in order; every row is in `rows`, `known` or `errors`.

    rows: int64 (N,), the rows that decoded. pixels: by the name of each preprocessing uint8 (N, 3, H, W), resized and cropped,
    not yet normalised; no names where N is 0. digests: the SHA-256 of the bytes of those N images. errors: row -> why its image
    cannot be tagged. refused: row -> digest of an image whose error is in its bytes. known: row -> digest of an image that was
    not decoded, because its embedding is there. versions: row -> what a server called the bytes that it sent. measures: float32
    (N, MEASURES), of the decoded pictures (images/quality.py). busy: seconds that reading and decoding took.
    """

    rows: NDArray[np.int64]
    pixels: Mapping[str, torch.Tensor]
    digests: tuple[bytes, ...]
    measures: NDArray[np.float32]
    errors: dict[int, ImageError] = field(default_factory=dict)
    refused: dict[int, bytes] = field(default_factory=dict)
    known: dict[int, bytes] = field(default_factory=dict)
    versions: dict[int, str] = field(default_factory=dict)
    busy: Busy = field(default_factory=Busy)


@dataclass(frozen=True, slots=True)
class LabelSets:
    """A prediction set for each of N images.

    labels: int64 (M,), indices of the attribute's labels, one set after another, each best first. sizes: int64 (N,), how many
    labels each set has, at least one.
    """

    labels: NDArray[np.int64]
    sizes: NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Decision:
    """The decision about N images for one attribute.

    top: int64 (N, k), indices of the attribute's labels, best first. confidence: float32 (N, k), their probabilities.
    review: for each image, why a person should look at it, or None. source: str (N,), which system decided about each: "clip",
    "head", "resnet18" or "hybrid". sets: where the attribute has `prediction_sets`. known: where it has `unknown`,
    float32 (N,) from 0 to 1, how well each image fits any of the labels. unknown: bool (N,), those that fit none.
    """

    top: NDArray[np.int64]
    confidence: NDArray[np.float32]
    review: tuple[str | None, ...]
    source: NDArray[np.str_]
    sets: LabelSets | None = None
    known: NDArray[np.float32] | None = None
    unknown: NDArray[np.bool_] | None = None
