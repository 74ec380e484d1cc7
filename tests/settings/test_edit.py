"""Prompts are written into a tagger.toml, and nothing else in it changes."""

from __future__ import annotations

import tomllib
from pathlib import Path

import pytest

from tagger.core.errors import ConfigError
from tagger.settings.edit import change_prompts, write_prompts
from tagger.settings.template import STARTER

FILE = """\
# Mine.
[model]   # spaced out
name = "model"

[[attribute]]
name = "category"  # the first
labels = [
    "dress",  # long
    {name = "shoes", prompts = ["Two shoes."], review_below = 0.5}, # a pair
]
templates = ["A photo of a {label}."] # short
truth_column = "category"

[[attribute]]
name = "other"
labels = ["a", "b"]
"""


def test_templates_take_the_place_of_what_was_there():
    changed = change_prompts(FILE, "tagger.toml", "category", ["One {label}.", 'Two "{label}".'], {})
    expected = FILE.replace(
        'templates = ["A photo of a {label}."] # short',
        'templates = [\n    "One {label}.",\n    "Two \\"{label}\\".",\n] # short',
    ).replace('{name = "shoes", prompts = ["Two shoes."], review_below = 0.5}', '{name = "shoes",  review_below = 0.5}')
    assert changed == expected


def test_labels_take_prompts_of_their_own():
    changed = change_prompts(FILE, "tagger.toml", "category", [], {"dress": ["A gown."], "shoes": ["Boots."]})
    assert changed == FILE.replace('"dress",', '{name = "dress", prompts = ["A gown."]},').replace("Two shoes.", "Boots.")


@pytest.mark.parametrize(
    "text",
    [
        'attribute = [{name = "c", labels = ["a", "b"]}]\r\n# end\r\n',
        '[[attribute]]\nname = "c"\n[[attribute.labels]]\nname = "a"\n[[attribute.labels]]\nname = "b"\nprompts = ["x", "y"]\n',
        '[[attribute]]\nname = "c"\nlabels = [{prompts = ["x"], name = "a"}, {name = "b", prompts = ["y"],}]\n'.replace(
            ",}", "}"
        ),
        STARTER.replace('"category"', '"c"').replace('["shirt", "dress", "shoes"]', '["a", "b"]'),
    ],
)
@pytest.mark.parametrize(("templates", "prompts"), [(["{label}!", "{label}?"], {}), ([], {"a": ["1", "2"], "b": ["3"]})])
def test_all_forms_of_toml_are_edited(text: str, templates: list[str], prompts: dict[str, list[str]]):
    changed = change_prompts(text, "tagger.toml", "c", templates, prompts)
    [table] = tomllib.loads(changed)["attribute"]
    if templates:
        assert table["templates"] == templates
        assert [label if isinstance(label, str) else label["name"] for label in table["labels"]] == ["a", "b"]
        assert not any("prompts" in label for label in table["labels"] if isinstance(label, dict))
    else:
        assert table["labels"] == [{"name": "a", "prompts": ["1", "2"]}, {"name": "b", "prompts": ["3"]}]
    comments = [line for line in text.splitlines() if line.startswith("#")]
    assert [line for line in changed.splitlines() if line.startswith("#")] == comments


@pytest.mark.parametrize("text", ["", '[[attribute]]\nname = "other"\nlabels = ["a", "b"]\n', 'labels = ["x", "y"]\n' + FILE])
def test_a_file_without_the_attributes_labels_is_left_alone(tmp_path: Path, text: str):
    (file := tmp_path / "tagger.toml").write_text(text)
    with pytest.raises(ConfigError, match='expected an \\[\\[attribute\\]\\] named "category" with its labels'):
        write_prompts(file, "category", ["{label}"], {})
    assert file.read_text() == text


def test_a_link_and_the_permissions_stay(tmp_path: Path):
    (real := tmp_path / "real.toml").write_bytes(FILE.replace("\n", "\r\n").encode())
    real.chmod(0o640)
    (link := tmp_path / "tagger.toml").symlink_to(real)
    write_prompts(link, "other", ["One {label}."], {})
    assert link.is_symlink()
    assert real.stat().st_mode & 0o777 == 0o640
    assert real.read_bytes() == FILE.replace("\n", "\r\n").encode() + b'templates = ["One {label}."]\r\n'
    assert sorted(path.name for path in tmp_path.iterdir()) == ["real.toml", "tagger.toml"]
