"""Sets of prompts for an attribute, and descriptions from a file."""

from __future__ import annotations

from pathlib import Path

import pytest

from tagger.core.errors import ConfigError
from tagger.settings.attributes import Attribute
from tagger.training.prompt_sets import DRAWS, RANDOM, RANDOM_PROMPTS, prompt_sets, read_descriptions

LABELS = ("dress", "hat")


def test_every_label_has_prompts_in_every_set():
    attribute = Attribute(name="kind", labels=LABELS, templates=("One {label}.",))
    sets = prompt_sets(attribute, {"dress": ["Long.", "Wide."], "hat": ["Round."]}, seed=0)
    assert [one.name for one in sets] == ["settings", "study", "ensemble", "fashion", "descriptions", "random words"]
    for one in sets:
        assert all(len(draw) == 2 and all(draw) for draw in one.draws)
        assert one.control == (one.name == RANDOM)
    by_name = {one.name: one for one in sets}
    assert by_name["settings"].prompts == (("One dress.",), ("One hat.",))
    assert by_name["study"].prompts == (("A photo of a dress.",), ("A photo of a hat.",))
    assert by_name["descriptions"].prompts == (("Long.", "Wide."), ("Round.",))
    assert len(set(by_name["ensemble"].templates)) == len(by_name["ensemble"].prompts[0]) == 16


def test_a_set_that_is_there_already_is_left_out():
    names = [one.name for one in prompt_sets(Attribute(name="kind", labels=LABELS), None, seed=0)]
    assert names == ["settings", "ensemble", "fashion", "random words"]


def test_prompts_of_a_label_are_no_templates():
    attribute = Attribute(name="kind", labels=({"name": "dress", "prompts": ["A gown."]}, "hat"))
    first = prompt_sets(attribute, None, seed=0)[0]
    assert (first.prompts, first.templates) == ((("A gown.",), ("A photo of a hat.",)), ())


def test_random_words_are_the_same_for_all_labels_and_for_one_seed():
    attribute = Attribute(name="kind", labels=LABELS)
    one, again, other = (prompt_sets(attribute, None, seed)[-1] for seed in (1, 1, 2))
    assert one == again != other
    assert len(set(one.draws)) == DRAWS
    for dress, hat in one.draws:
        assert len(set(dress)) == RANDOM_PROMPTS
        assert [text.replace("dress", "hat", 1) for text in dress] == list(hat)


def test_descriptions_are_read_once_each(tmp_path: Path):
    (file := tmp_path / "d.json").write_text('{"hat": [" Round. ", "Round."], "dress": ["Élégant."]}', encoding="utf-8")
    assert read_descriptions(file, LABELS) == {"hat": ("Round.",), "dress": ("Élégant.",)}


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (None, "expected a readable file, found: No such file"),
        ("{", "expected JSON such as"),
        ("[" * 100_000, "damaged JSON"),
        (b"\xff\xfe\x00", "damaged JSON"),
        ("[1]", "found list"),
        ('{"dress": ["a"], "hat": ["a"], "cape": ["a"]}', 'expected the labels "dress", "hat", found others: "cape"'),
        ('{"dress": ["a"]}', 'found none of "hat"'),
        ('{"dress": ["a"], "hat": []}', 'expected a list of texts for "hat", at least one and none blank, found []'),
        ('{"dress": ["a"], "hat": [" "]}', 'found [" "]'),
        ('{"dress": "a", "hat": ["a"]}', 'a list of texts for "dress"'),
        ('{"dress": ["a"], "hat": ["a"], "dress": ["b"]}', 'found "dress" more than once'),
    ],
)
def test_damaged_descriptions_are_one_line(tmp_path: Path, text: str | bytes | None, words: str):
    file = tmp_path / "d.json"
    if text is not None:
        file.write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(ConfigError) as raised:
        read_descriptions(file, LABELS)
    assert str(raised.value).startswith(f"--descriptions {file}: expected ")
    assert words in str(raised.value)
    assert "\n" not in str(raised.value)
