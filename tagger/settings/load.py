"""tagger.toml and options -> frozen, validated settings."""

from __future__ import annotations

import difflib
import logging
import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ValidationError

from tagger.core.errors import ConfigError
from tagger.core.urls import is_object_url
from tagger.encoders.pinned import commit_of
from tagger.encoders.resnet18_checkpoint import is_trained
from tagger.settings.attributes import Attribute, Label
from tagger.settings.schema import (
    FILE_NAME,
    CacheSettings,
    FallbackSettings,
    GateSettings,
    ImageSettings,
    ManifestSettings,
    ModelSettings,
    Settings,
)

log = logging.getLogger(__name__)


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


def gather_settings(
    manifest: str,
    config: str | Path | Mapping[str, Any] | None = None,
    *,
    model: str | Path | None = None,
    revision: str | None = None,
    backend: str | None = None,
    precision: str | None = None,
    image_column: str | None = None,
    image_root: str | Path | None = None,
    image_timeout: float | None = None,
    allow_formats: Sequence[str] | None = None,
    cache: str | Path | bool | None = None,
    exact_preprocessing: bool = False,
) -> Settings:
    """The settings file, or the mapping, with the options on top."""
    if isinstance(config, Mapping):
        settings = parse_settings(config, where="config")
    else:
        path = Path() if is_object_url(manifest) else Path(manifest)
        file = Path(config) if config is not None else find_settings_file(path if path.is_dir() else path.parent)
        settings = read_settings(file) if file else Settings()
        if file:
            log.info("settings: %s", file)
    if model is not None:  # another model: the file's revision is not its revision
        settings = _replace(settings, "model", name=str(model), revision=revision)
    elif revision is not None:
        settings = _replace(settings, "model", revision=revision)
    if commit := commit_of(settings.model.name):  # a pinned copy knows better
        settings = _replace(settings, "model", revision=commit)
    settings = _override(settings, "model", backend=backend, precision=precision)
    if exact_preprocessing:
        settings = _replace(settings, "model", exact_preprocessing=True)
    if image_column is not None:
        settings = _replace(settings, "manifest", image_column=image_column)
    if image_root is not None:
        settings = _replace(settings, "manifest", image_root=str(image_root))
    if isinstance(cache, bool):
        settings = _replace(settings, "cache", enabled=cache)
    elif cache is not None:
        settings = _replace(settings, "cache", enabled=True, folder=str(cache))
    return _override(settings, "images", timeout=image_timeout, allow_formats=allow_formats)


def _override(settings: Settings, section: str, **options: Any) -> Settings:
    """Those options that were given, checked as the settings file is."""
    given = {key: value for key, value in options.items() if value is not None}
    checked = getattr(parse_settings({section: given}, where="options"), section)
    return _replace(settings, section, **{key: getattr(checked, key) for key in given})


def _replace(settings: Settings, table: str, **values: Any) -> Settings:
    return settings.model_copy(update={table: getattr(settings, table).model_copy(update=values)})
