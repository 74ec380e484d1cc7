"""tagger.toml and options -> frozen, validated settings."""

from __future__ import annotations

import difflib
import re
import tomllib
from collections.abc import Mapping
from importlib.util import find_spec
from ipaddress import ip_network
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, Field, ValidationError, field_validator

from tagger.encoders.trained import is_trained
from tagger.errors import ConfigError
from tagger.stores import STORES
from tagger.tagging.taxonomy import Attribute, Frozen, Label, Text, duplicates
from tagger.types import MORE_FORMATS

FILE_NAME = "tagger.toml"
DEFAULT_MODEL = "openai/clip-vit-base-patch32"

_LABEL = "[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?"
# A name in ASCII (an international one in its "xn--" form) or an IPv4 address, and a port.
HOST = re.compile(rf"{_LABEL}(?:\.{_LABEL})*(?::[0-9]{{1,5}})?", re.IGNORECASE)
BUCKET = re.compile(r"(s3|gs|az)://[A-Za-z0-9][A-Za-z0-9._-]*")

Backend = Literal["torch", "openvino"]
Precision = Literal["auto", "fp32", "bf16", "fp16", "int8"]
Share = Annotated[float, Field(ge=0, le=1)]


class ModelSettings(Frozen):
    """`name` is a folder (relative to the file that names it) or a hub id.

    `precision` "auto" is the device's fastest, if it decides as fp32 does on the first images; int8 is OpenVINO's only.
    `exact_preprocessing`: pixels with the very arithmetic of the checkpoint's own image processor, slower on large JPEGs.
    """

    name: Text = DEFAULT_MODEL
    revision: Text | None = None
    backend: Backend = "torch"
    precision: Precision = "auto"
    exact_preprocessing: bool = False


class ManifestSettings(Frozen):
    """`image_root` is relative to the file that names it; without one, image paths start at the manifest's folder."""

    image_column: Text | None = None
    id_column: Text | None = None
    image_root: Text | None = None


class ImageSettings(Frozen):
    """Beside the image root and JPEG, PNG and WebP: what else may be read. Folders are relative to the file that names them."""

    allow_roots: tuple[Text, ...] = Field(default=(), strict=False)
    allow_formats: tuple[Text, ...] = Field(default=(), strict=False)
    allow_hosts: tuple[Text, ...] = Field(default=(), strict=False)
    allow_buckets: tuple[Text, ...] = Field(default=(), strict=False)
    allow_private_networks: tuple[Text, ...] = Field(default=(), strict=False)
    timeout: float = Field(default=60.0, gt=0)

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


class CacheSettings(Frozen):
    """Where embeddings are kept between runs: `folder` is relative to the file that names it; default: the user's cache."""

    enabled: bool = True
    folder: Text | None = None
    max_gb: float = Field(default=16.0, gt=0)


class FallbackSettings(Frozen):
    """A checkpoint of `tagger train` (relative to the file that names it) beside CLIP.

    low-confidence: it decides rows whose CLIP confidence is under `below`, where it is the more confident. ensemble: the
    probabilities of both are averaged. on_model_error: where CLIP cannot be had, it tags alone.
    """

    checkpoint: Text
    mode: Literal["low-confidence", "ensemble"] = "low-confidence"
    below: Annotated[float, Field(gt=0, le=1, strict=False)] = 0.5
    on_model_error: bool = False


class GateSettings(Frozen):
    """What the results must reach to be published; rates and shares from 0 to 1, None for no gate."""

    min_accuracy: Share | None = None
    min_macro_f1: Share | None = None
    min_labelled_rows: Annotated[int, Field(ge=0)] | None = None
    max_error_rate: Share | None = None
    max_review_rate: Share | None = None
    max_changed_labels: Share | None = None


class Settings(Frozen):
    cache: CacheSettings = CacheSettings()
    images: ImageSettings = ImageSettings()
    model: ModelSettings = ModelSettings()
    manifest: ManifestSettings = ManifestSettings()
    fallback: FallbackSettings | None = None
    gates: GateSettings = GateSettings()
    attributes: tuple[Attribute, ...] = Field(default=(), alias="attribute", strict=False)

    @field_validator("attributes")
    @classmethod
    def _attributes_differ(cls, attributes: tuple[Attribute, ...]) -> tuple[Attribute, ...]:
        if repeated := duplicates(attribute.name for attribute in attributes):
            raise ValueError(f"expected every attribute name once, found {', '.join(repeated)} more than once; rename one")
        return attributes


def find_settings_file(manifest_folder: Path) -> Path | None:
    """tagger.toml beside the manifest, else in the working directory, else None."""
    places = (manifest_folder / FILE_NAME, Path(FILE_NAME))
    return next((place for place in places if place.is_file()), None)


def read_settings(path: Path) -> Settings:
    """Read tagger.toml, its relative paths made relative to the working directory; ConfigError names key and fix."""
    try:
        content = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(f"{path}: expected a readable file, found: {error.strerror}; see --config") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: expected TOML, found: {error}; correct it there") from error
    settings = parse_settings(content, where=str(path))
    model, manifest = settings.model, settings.manifest
    if (path.parent / model.name).is_dir() or is_trained(model.name):
        model = model.model_copy(update={"name": str(path.parent / model.name)})
    if manifest.image_root is not None:
        manifest = manifest.model_copy(update={"image_root": str(path.parent / manifest.image_root)})
    roots = tuple(str(path.parent / root) for root in settings.images.allow_roots)
    images = settings.images.model_copy(update={"allow_roots": roots})
    cache = settings.cache
    if cache.folder is not None:
        cache = cache.model_copy(update={"folder": str(path.parent / cache.folder)})
    fallback = settings.fallback
    if fallback is not None:
        fallback = fallback.model_copy(update={"checkpoint": str(path.parent / fallback.checkpoint)})
    attributes = tuple(
        attribute.model_copy(update={"calibration": str(path.parent / attribute.calibration)})
        if attribute.calibration
        else attribute
        for attribute in settings.attributes
    )
    changed = {"model": model, "manifest": manifest, "images": images, "cache": cache, "fallback": fallback}
    return settings.model_copy(update={**changed, "attributes": attributes})


def parse_settings(content: Mapping[str, Any], where: str) -> Settings:
    """Validate the content of a tagger.toml; `where` opens each line of the ConfigError."""
    try:
        return Settings.model_validate(content)
    except ValidationError as error:
        lines = [f"{where}: {_explain(problem, content)}" for problem in error.errors()]
        raise ConfigError(*lines) from error


def _explain(problem: Mapping[str, Any], content: Mapping[str, Any]) -> str:
    """One pydantic problem in the words of the file: the key, what is wrong, what was found, what to do."""
    *parents, last = problem["loc"] or ("",)
    key = ".".join(str(part) for part in problem["loc"]) or "the whole file"
    if len(problem["loc"]) > 1 and problem["loc"][0] == "attribute":
        number = problem["loc"][1]
        name = content["attribute"][number].get("name", number) if isinstance(content["attribute"][number], dict) else number
        key = f'attribute "{name}"' + "".join(f": {part}" for part in problem["loc"][2:3])
        key += "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in problem["loc"][3:])
    if problem["type"] == "extra_forbidden":
        known = _keys(parents)
        close = difflib.get_close_matches(str(last), known, n=1)
        remedy = f'did you mean "{close[0]}"?' if close else f"known keys: {', '.join(known)}"
        return f"{key}: unknown key; {remedy}"
    message = problem["msg"].removeprefix("Value error, ")
    if problem["type"] == "value_error":
        return f"{key}: {message}"
    if problem["type"] == "missing":
        return f"{key}: expected this key, found none; add it"
    return f"{key}: {message[0].lower()}{message[1:]}, found {problem['input']!r}; correct it"


def _keys(parents: list[str | int]) -> list[str]:
    """The keys that are known at a place in the file."""
    models: dict[str, type[BaseModel]] = {
        "model": ModelSettings,
        "manifest": ManifestSettings,
        "images": ImageSettings,
        "cache": CacheSettings,
        "fallback": FallbackSettings,
        "gates": GateSettings,
        "attribute": Attribute,
    }
    model = Label if "labels" in parents else models[str(parents[0])] if parents else Settings
    return [field.alias or name for name, field in model.model_fields.items()]
