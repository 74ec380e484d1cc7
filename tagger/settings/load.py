"""tagger.toml and options -> settings, merged first, then validated together; mistakes are said in the words of the file."""

from __future__ import annotations

import difflib
import logging
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from copy import deepcopy
from pathlib import Path
from typing import Any, NamedTuple, Unpack, get_args

from pydantic import BaseModel, ValidationError

from tagger.core.errors import ConfigError
from tagger.core.urls import is_object_url
from tagger.settings.options import KEYS, Overrides
from tagger.settings.paths import OptionPath
from tagger.settings.schema import FILE_NAME, Settings

log = logging.getLogger(__name__)

PATHS = ("model", "image_root", "cache")  # overrides that lead to a place on this machine


class Source(NamedTuple):
    """The content of a settings file, the folder that its paths start at, and how messages name it."""

    content: Mapping[str, Any]
    folder: Path
    name: str


def load_settings(
    manifest: str, config: str | Path | Mapping[str, Any] | None = None, **overrides: Unpack[Overrides]
) -> Settings:
    """Return the settings for this manifest, with the overrides on top; ConfigError with a line for each mistake.

    config: a tagger.toml, or its content; default: the file beside the manifest, else in the working directory.
    """
    source = _read_source(manifest, config)
    given = {name: value for name, value in overrides.items() if value is not None}
    content = deepcopy(dict(source.content))
    if "model" in given and isinstance(content.get("model"), dict):
        content["model"].pop("revision", None)  # it is another model's
    for name, value in given.items():
        _put(content, name, value)
    try:
        return Settings.model_validate(content, context={"folder": source.folder})
    except ValidationError as error:
        raise ConfigError(*_describe(error, content, source.name, given)) from error


def find_settings_file(manifest_folder: Path) -> Path | None:
    """Return tagger.toml beside the manifest, else in the working directory, else None."""
    places = (manifest_folder / FILE_NAME, Path(FILE_NAME))
    return next((place for place in places if place.is_file()), None)


def settings_file(manifest: str, config: str | Path | Mapping[str, Any] | None) -> Path | None:
    """Return the file that `load_settings` reads, None where it reads none."""
    if isinstance(config, Mapping):
        return None
    if config is not None:
        return Path(config)
    path = Path() if is_object_url(manifest) else Path(manifest)
    return find_settings_file(path if path.is_dir() else path.parent)


def parse_settings(content: Mapping[str, Any], where: str) -> Settings:
    """Validate the content of a tagger.toml; `where` opens each line of the ConfigError."""
    try:
        return Settings.model_validate(content)
    except ValidationError as error:
        raise ConfigError(*_describe(error, content, where, {})) from error


def _read_source(manifest: str, config: str | Path | Mapping[str, Any] | None) -> Source:
    if isinstance(config, Mapping):
        return Source(config, Path(), "config")
    file = settings_file(manifest, config)
    if file is None:
        return Source({}, Path(), "options")
    try:
        content = tomllib.loads(file.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(f"{file}: expected a readable file, found: {error.strerror}; see --config") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"{file}: expected TOML, found: {error}; correct it there") from error
    log.info("settings: %s", file)
    return Source(content, file.parent, str(file))


def _put(content: dict[str, Any], name: str, value: Any) -> None:
    """Write an override into the content of a settings file; a section that is no table stays, to be complained about."""
    *sections, key = KEYS[name].split(".")
    table: Any = content
    for section in sections:
        table = table.setdefault(section, {})
    if not isinstance(table, dict):
        return
    if name == "cache":
        table["enabled"] = value is not False
        if isinstance(value, bool):
            return
    table[key] = OptionPath(value) if name in PATHS else value


def _describe(error: ValidationError, content: Mapping[str, Any], where: str, given: Mapping[str, Any]) -> Iterator[str]:
    """Yield a line for each of pydantic's problems: the file or the option, the key, what is wrong, what to do."""
    option_of = {KEYS[name]: f"--{name.replace('_', '-')}" for name in given}
    for problem in error.errors():
        key = _key_of(problem["loc"], content)
        option = next((option for path, option in option_of.items() if f"{key}.".startswith(f"{path}.")), None)
        message = _message_of(problem)
        yield f"{option}: {message}" if option else f"{where}: {key}: {message}"


def _key_of(loc: Sequence[str | int], content: Mapping[str, Any]) -> str:
    """Return the key that a problem is about, as a person would write it."""
    if len(loc) < 2 or loc[0] != "attribute":
        return ".".join(map(str, loc)) or "the whole file"
    number, *inner = loc[1:]
    table = content["attribute"][number]
    name = table.get("name", number) if isinstance(table, dict) else number
    key = f'attribute "{name}"' + "".join(f": {part}" for part in inner[:1])
    return key + "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in inner[1:])


def _message_of(problem: Mapping[str, Any]) -> str:
    """Return what is wrong, and what to do about it."""
    *parents, last = problem["loc"] or ("",)
    message = problem["msg"].removeprefix("Value error, ")
    match problem["type"]:
        case "extra_forbidden":
            known = [field.alias or name for name, field in _model_at(parents).model_fields.items()]
            close = difflib.get_close_matches(str(last), known, n=1)
            return "unknown key; " + (f'did you mean "{close[0]}"?' if close else f"known keys: {', '.join(known)}")
        case "value_error":
            return str(message)
        case "missing":
            return "expected this key, found none; add it"
    return f"{message[0].lower()}{message[1:]}, found {problem['input']!r}; correct it"


def _model_at(loc: Sequence[str | int]) -> type[BaseModel]:
    """Return the schema of the table at this place."""
    model: type[BaseModel] = Settings
    for part in loc:
        fields = {field.alias or name: field for name, field in model.model_fields.items()}
        if part in fields:
            model = next(_models_in(fields[str(part)].annotation), model)
    return model


def _models_in(annotation: Any) -> Iterator[type[BaseModel]]:
    """Yield the pydantic models that a type is made of: `Label` of `tuple[Annotated[Label, …], ...]`."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    for part in get_args(annotation):
        yield from _models_in(part)
