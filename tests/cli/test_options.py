"""Options that are lists, as people type them."""

from __future__ import annotations

import click
import pytest

from tagger.cli.main import cli
from tagger.cli.options import split_list


def split(value: str | None) -> list[str] | None:
    return split_list(click.Context(cli), click.Option(["--labels"]), value)


@pytest.mark.parametrize(
    ("value", "items"),
    [
        (None, None),
        ("shirt", ["shirt"]),
        ("shirt,dress,shoes", ["shirt", "dress", "shoes"]),
        (" shirt , t-shirt ", ["shirt", "t-shirt"]),
        ('"shirt, long sleeves",dress', ["shirt, long sleeves", "dress"]),
        ('dress, "shirt, short"', ["dress", "shirt, short"]),
        ("a;b,c", ["a;b", "c"]),
        ("Hüte,帽子", ["Hüte", "帽子"]),
    ],
)
def test_a_list_is_read_as_csv_is(value: str | None, items: list[str] | None):
    assert split(value) == items


@pytest.mark.parametrize("value", ["", ",", "shirt,", "shirt,,dress", "shirt, ,dress"])
def test_an_empty_item_is_refused(value: str):
    with pytest.raises(click.BadParameter, match="found an empty one in .*; remove the comma"):
        split(value)


@pytest.mark.parametrize("mark", [";", "|", "\uff0c", "\u3001"])
def test_another_separator_is_named(mark: str):
    with pytest.raises(click.BadParameter) as caught:
        split(f"shirt{mark}dress")
    assert caught.value.message.startswith(f"expected items separated by commas, found {mark!r} in ")
