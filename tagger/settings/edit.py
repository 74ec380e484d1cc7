"""Write prompts into a tagger.toml that a person wrote: comments, order and everything else stay."""

from __future__ import annotations

import shutil
import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tagger.core.errors import ConfigError
from tagger.core.files import removed_on_failure, temporary_of
from tagger.core.write_check import write_error


def write_prompts(file: Path, attribute: str, templates: Sequence[str], prompts: Mapping[str, Sequence[str]]) -> None:
    """Give an attribute of the file these templates, and no label prompts of its own; without templates, give each its own.

    The file is written whole or not at all. ConfigError where it has no such attribute, or labels that outrank the attribute's;
    StoppedError, UsageError where it cannot be written.
    """
    changed = change_prompts(_read(file), str(file), attribute, templates, prompts)
    target = file.resolve()  # a link stays one
    try:
        with removed_on_failure(temporary_of(target)) as temporary:
            temporary.write_bytes(changed.encode())
            shutil.copymode(target, temporary)
            temporary.replace(target)
    except OSError as error:
        raise write_error(str(file), error) from error


def require_editable(file: Path, attribute: str) -> None:
    """Require that `write_prompts` will find the attribute and its labels; ConfigError."""
    text = _read(file)
    _attribute_of(tomllib.loads(text), str(file), attribute)


def change_prompts(text: str, where: str, attribute: str, templates: Sequence[str], prompts: Mapping[str, Sequence[str]]) -> str:
    """Return the text of a tagger.toml with other prompts of an attribute, and nothing else changed; see `write_prompts`."""
    import tomlkit

    document = tomlkit.parse(text)
    table = _attribute_of(document, where, attribute)
    if templates:
        table["templates"] = _array(templates)
    labels = table["labels"]
    for number, label in enumerate(labels):
        name = label if isinstance(label, str) else label["name"]
        if not templates:
            item = tomlkit.inline_table() if isinstance(label, str) else label
            item["name"], item["prompts"] = name, _array(prompts[name])
            labels[number] = item
        elif not isinstance(label, str) and "prompts" in label:
            del label["prompts"]
    changed = tomlkit.dumps(document)
    if "\r\n" in text:  # what is new ends its lines as the file does
        changed = changed.replace("\r\n", "\n").replace("\n", "\r\n")
    _require_only_prompts_changed(text, changed, where, attribute, templates, prompts)
    return changed


def _read(file: Path) -> str:
    try:
        return file.read_bytes().decode()  # not read_text, which would change the ends of lines
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{file}: expected a readable file, found: {error}; see --config") from error


def _array(texts: Sequence[str]) -> Any:  # tomlkit's own kind of list
    import tomlkit

    array = tomlkit.array()
    array.extend(texts)
    return array.multiline(len(texts) > 1)


def _attribute_of(document: Mapping[str, Any], where: str, attribute: str) -> Any:
    """Return the table of an attribute, of which nothing else in the file is the labels' source."""
    found = [table for table in document.get("attribute", []) if table.get("name") == attribute]
    if not found or "labels" in document:
        lacking = "labels at the top, which outrank an attribute's" if found else "none"
        raise ConfigError(
            f'{where}: expected an [[attribute]] named "{attribute}" with its labels, to write prompts into, found {lacking}; '
            "write one, as `tagger init` does"
        )
    return found[0]


def _require_only_prompts_changed(
    before: str, after: str, where: str, attribute: str, templates: Sequence[str], prompts: Mapping[str, Sequence[str]]
) -> None:
    """Raise ConfigError for a file of a form that was not edited as it should be: it is left as it is."""
    wanted = tomllib.loads(before)
    table = _attribute_of(wanted, where, attribute)
    if templates:
        table["templates"] = list(templates)
    for number, label in enumerate(table["labels"]):
        values = {"name": label} if isinstance(label, str) else label
        if not templates:
            table["labels"][number] = {**values, "prompts": list(prompts[values["name"]])}
        elif not isinstance(label, str):
            table["labels"][number] = {key: value for key, value in label.items() if key != "prompts"}
    try:
        same = tomllib.loads(after) == wanted
    except tomllib.TOMLDecodeError:
        same = False
    if not same:
        raise ConfigError(
            f"{where}: expected TOML that prompts can be written into, found a form that they cannot; write them by hand"
        )
