"""The tables and keys of tagger.toml, and which values they may have."""

from __future__ import annotations

import re
from importlib.util import find_spec
from ipaddress import ip_network
from typing import Annotated, Literal

from pydantic import Field, field_validator

from tagger.core.types import MORE_FORMATS
from tagger.core.urls import STORES
from tagger.settings.attributes import Attribute, Section, duplicates
from tagger.settings.cache_url import check_cache_url
from tagger.settings.options import Backend, Precision
from tagger.settings.paths import ModelName, RelativePath, Text, is_resnet18

FILE_NAME = "tagger.toml"
DEFAULT_MODEL = "openai/clip-vit-base-patch32"

_LABEL = "[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?"
# A name in ASCII (an international one in its "xn--" form) or an IPv4 address, and a port.
HOST = re.compile(rf"{_LABEL}(?:\.{_LABEL})*(?::[0-9]{{1,5}})?", re.IGNORECASE)
BUCKET = re.compile(r"(s3|gs|az)://[A-Za-z0-9][A-Za-z0-9._-]*")


Share = Annotated[float, Field(ge=0, le=1)]


class ModelSettings(Section):
    """`name` is a folder (relative to the file that names it) or a hub id.

    `precision` "auto" is the device's fastest, if it decides as fp32 does on the first images; int8 is OpenVINO's only.
    `exact_preprocessing`: pixels with the very arithmetic of the checkpoint's own image processor, slower on large JPEGs.
    `allow_licences`: by their names on the hub, such as "apache-2.0"; a model under another, or an unknown one, is refused.
    """

    name: ModelName = DEFAULT_MODEL
    revision: Text | None = None
    backend: Backend = "torch"
    precision: Precision = "auto"
    exact_preprocessing: bool = False
    allow_licences: tuple[Text, ...] = Field(default=(), strict=False)

    @property
    def is_resnet18(self) -> bool:
        """Whether this is a checkpoint of `tagger train resnet18`, not a CLIP."""
        return is_resnet18(self.name)


class ManifestSettings(Section):
    """`image_root` is relative to the file that names it; without one, image paths start at the manifest's folder."""

    image_column: Text | None = None
    id_column: Text | None = None
    image_root: RelativePath | None = None


class ImageSettings(Section):
    """Beside the image root and JPEG, PNG and WebP: what else may be read. Folders are relative to the file that names them."""

    allow_roots: tuple[RelativePath, ...] = Field(default=(), strict=False)
    allow_formats: tuple[Text, ...] = Field(default=(), strict=False)
    allow_hosts: tuple[Text, ...] = Field(default=(), strict=False)
    allow_buckets: tuple[Text, ...] = Field(default=(), strict=False)
    allow_private_networks: tuple[Text, ...] = Field(default=(), strict=False)
    timeout: float = Field(default=60.0, gt=0, allow_inf_nan=False)

    @field_validator("allow_formats")
    @classmethod
    def _formats_are_known(cls, formats: tuple[str, ...]) -> tuple[str, ...]:
        if unknown := [name for name in formats if name not in MORE_FORMATS]:
            raise ValueError(f"expected some of {', '.join(MORE_FORMATS)}, found {', '.join(unknown)}; correct it")
        return formats

    @field_validator("allow_hosts")
    @classmethod
    def _are_hosts(cls, hosts: tuple[str, ...]) -> tuple[str, ...]:
        for host in hosts:
            name, _, port = host.partition(":")
            if not HOST.fullmatch(host) or len(name) > 253 or int(port or 1) not in range(1, 65536):
                raise ValueError(f'expected host names such as "cdn.example.com" or "cdn.example.com:8443", found {host!r}')
        return tuple(host.lower().removesuffix(":443") for host in hosts)

    @field_validator("allow_buckets")
    @classmethod
    def _are_buckets(cls, buckets: tuple[str, ...]) -> tuple[str, ...]:
        for bucket in buckets:
            if not (found := BUCKET.fullmatch(bucket)):
                raise ValueError(f'expected buckets such as "s3://photos", "gs://photos" or "az://photos", found {bucket!r}')
            package, extra = STORES[found[1]]
            if find_spec(package) is None:
                raise ValueError(f"expected {package}, to read {bucket}, found none; pip install 'tagger[{extra}]'")
        return buckets

    @field_validator("allow_private_networks")
    @classmethod
    def _are_networks(cls, networks: tuple[str, ...]) -> tuple[str, ...]:
        for network in networks:
            try:
                ip_network(network)
            except ValueError as error:
                raise ValueError(f'expected ranges of addresses such as "10.1.0.0/16", found {network!r}: {error}') from error
        return networks


class QualitySettings(Section):
    """Which pictures go to review, though they can be read: the fields of QualityLimits (core/types.py)."""

    min_side: Annotated[int, Field(ge=0)] = 10
    min_aspect_ratio: Share = 0.0
    min_brightness: Share = 0.0
    max_brightness: Share = 1.0
    min_sharpness: Annotated[float, Field(ge=0, allow_inf_nan=False)] = 0.0


class CacheSettings(Section):
    """Where embeddings are kept between runs: `folder` is relative to the file that names it; default: the user's cache.

    url: of a PostgreSQL database that keeps those of images for many machines (cache/shared_cache.py); `max_gb` is the
    folder's.
    """

    enabled: bool = True
    folder: RelativePath | None = None
    max_gb: float = Field(default=16.0, gt=0, allow_inf_nan=False)
    url: str | None = None

    @field_validator("url")
    @classmethod
    def _is_a_database(cls, url: str | None) -> str | None:
        return url if url is None else check_cache_url(url)


class FallbackSettings(Section):
    """A checkpoint of `tagger train` (relative to the file that names it) beside CLIP.

    low-confidence: it decides rows whose CLIP confidence is under `below`, where it is the more confident. ensemble: the
    probabilities of both are averaged. on_model_error: where CLIP cannot be had, it tags alone.
    """

    checkpoint: RelativePath
    mode: Literal["low-confidence", "ensemble"] = "low-confidence"
    below: Annotated[float, Field(gt=0, le=1, strict=False)] = 0.5
    on_model_error: bool = False


class GateSettings(Section):
    """What the results must reach to be published; rates and shares from 0 to 1, None for no gate.

    max_errors: rows, or a percentage such as "2%"; it takes the place of max_error_rate. max_psi: a population stability index.
    min_truth_in_labels: no gate of its own, but the share of an attribute's truth values that must fit a label for min_accuracy
    and min_macro_f1 to pass.
    """

    min_accuracy: Share | None = None
    min_macro_f1: Share | None = None
    min_labelled_rows: Annotated[int, Field(ge=0)] | None = None
    max_error_rate: Share | None = None
    max_errors: int | str | None = None
    max_review_rate: Share | None = None
    max_changed_labels: Share | None = None
    max_psi: Annotated[float, Field(ge=0, allow_inf_nan=False)] | None = None
    min_truth_in_labels: Share = 0.5


class ReportSettings(Section):
    """What report.html shows beside the whole: the columns whose values are evaluated each for itself."""

    slices: tuple[Text, ...] = Field(default=(), strict=False)


class Settings(Section):
    """All of tagger.toml; `labels` are those of its one attribute, or of an attribute that the manifest names."""

    labels: tuple[Text, ...] | None = Field(default=None, strict=False)
    cache: CacheSettings = CacheSettings()
    images: ImageSettings = ImageSettings()
    quality: QualitySettings = QualitySettings()
    model: ModelSettings = ModelSettings()
    manifest: ManifestSettings = ManifestSettings()
    fallback: FallbackSettings | None = None
    gates: GateSettings = GateSettings()
    report: ReportSettings = ReportSettings()
    attributes: tuple[Attribute, ...] = Field(default=(), alias="attribute", strict=False)

    @field_validator("attributes")
    @classmethod
    def _attributes_differ(cls, attributes: tuple[Attribute, ...]) -> tuple[Attribute, ...]:
        if repeated := duplicates(attribute.name for attribute in attributes):
            raise ValueError(f"expected every attribute name once, found {', '.join(repeated)} more than once; rename one")
        return attributes
