"""What a caller says beside tagger.toml, and that the command line says the same."""

from __future__ import annotations

from dataclasses import fields
from typing import get_type_hints

import click
import pytest

from tagger.cli.main import cli
from tagger.core.errors import UsageError
from tagger.settings.options import KEYS, Machine, Output, Overrides, Study
from tagger.settings.schema import Settings

READ_A_MANIFEST = ("run", "inspect", "train head", "train resnet18", "calibrate", "compare")


def command(name: str) -> click.Command:
    found: click.Command = cli
    for part in name.split():
        assert isinstance(found, click.Group)
        found = found.commands[part]
    return found


def test_every_override_has_a_key_of_the_settings():
    assert list(KEYS) == list(get_type_hints(Overrides))
    for key in KEYS.values():
        model: object = Settings()
        for part in key.split("."):
            assert hasattr(model, part), key
            model = getattr(model, part)


@pytest.mark.parametrize("name", READ_A_MANIFEST)
def test_every_command_that_reads_a_manifest_takes_the_same_options_in_the_same_words(name: str):
    of_run_alone = {"max_errors", "progress", "devices", "engine", "ray_address", "ray_workers"}
    everything = {*KEYS, *(field.name for field in fields(Machine)), "config", "no_cache"} - of_run_alone
    options = [option for option in command(name).params if option.name in everything]
    of_run = [option for option in command("run").params if option.name in everything]
    assert {option.name for option in options} == everything
    assert [(one.name, one.opts, getattr(one, "help", "")) for one in options] == [
        (one.name, one.opts, getattr(one, "help", "")) for one in of_run
    ]


@pytest.mark.parametrize("together", [{"path": "a.parquet"}, {"limit": 3}, {"retry_errors": "a.parquet"}])
def test_what_excludes_each_other_is_refused_where_it_is_said(together: dict[str, object]):
    with pytest.raises(UsageError, match="leave one out|would replace the whole"):
        Output(report=False, in_place=True, **together)  # type: ignore[arg-type]


def test_a_study_needs_rows_to_learn_from():
    assert Study(test=None, test_manifest="test.parquet").test is None
    with pytest.raises(UsageError, match="name a --test-manifest"):
        Study(test=None)
