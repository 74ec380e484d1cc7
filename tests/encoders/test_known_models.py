"""Models that are known by name, and licences that are allowed."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner

import tagger
from tagger.cli.main import cli
from tagger.core.errors import ConfigError
from tagger.encoders.known_models import KNOWN, check_licence, licence_of
from tests.helpers.keywords import keywords

ALLOWED = ("MIT", "apache-2.0")


def pinned(folder: Path, **more: str) -> str:
    """A folder that was pulled."""
    described = {"repository": "shop/clip", "commit": "3d74acf9", "files": {}, **more}
    (folder / "tagger-model.json").write_text(json.dumps(described))
    return str(folder)


def test_a_licence_is_known_by_the_copy_or_by_the_name(tmp_path: Path):
    assert licence_of("openai/clip-vit-base-patch32") == "mit"
    assert licence_of(pinned(tmp_path, licence="cc-by-4.0")) == "cc-by-4.0"
    assert licence_of(pinned(tmp_path, repository="google/siglip-base-patch16-224")) == "apache-2.0"
    assert licence_of(pinned(tmp_path)) is None


def test_allowed_licences_pass_whatever_their_case(tmp_path: Path):
    check_licence("openai/clip-vit-base-patch32", ALLOWED)
    check_licence(pinned(tmp_path, licence="Apache-2.0"), ALLOWED)
    check_licence("shop/unknown", ())


@pytest.mark.parametrize(
    ("name", "found"),
    [
        ("facebook/metaclip-2-worldwide-huge-quickgelu", "one under cc-by-nc-4.0; name another"),
        ("shop/unknown", "one whose licence is not known; name another"),
    ],
)
def test_another_licence_is_refused(name: str, found: str):
    with pytest.raises(ConfigError, match=rf"model {name}: expected a licence that .* \(MIT, apache-2.0\), found {found}"):
        check_licence(name, ALLOWED)


def test_a_run_asks_before_it_loads_a_model(small_clip: Path, write_manifest, pictures: Path):
    manifest = write_manifest([str(pictures / "0000.png")])
    settings = {"labels": ["shirt", "dress"], "model": {"name": str(small_clip), "allow_licences": ["mit"]}}
    with pytest.raises(ConfigError, match="found one whose licence is not known"):
        tagger.run(manifest, settings, **keywords(image_root="/"))


def test_the_list_names_all():
    shown = CliRunner().invoke(cli, ["models", "list"])
    assert (shown.exit_code, len(shown.output.splitlines())) == (0, len(KNOWN) + 2)
    listed = json.loads(CliRunner().invoke(cli, ["models", "list", "--json"]).output)
    assert [one["name"] for one in listed] == [one.name for one in KNOWN]
    assert len({one.name for one in KNOWN}) == len(KNOWN)
