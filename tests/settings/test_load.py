"""tagger.toml: what is wrong, where, and what to do."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel

from tagger.core.errors import ConfigError
from tagger.settings.load import _models_in, find_settings_file, load_settings
from tagger.settings.schema import Settings
from tagger.settings.template import STARTER, write_starter

ATTRIBUTE = '[[attribute]]\nname = "kind"\nlabels = ["hat", "bag"]\n'


def read(folder: Path, text: str) -> Settings:
    path = folder / "tagger.toml"
    path.write_text(text)
    return load_settings("manifest.parquet", path)


def test_the_example_of_the_design_is_read(tmp_path: Path):
    settings = read(
        tmp_path,
        """
        [model]
        name = "openai/clip-vit-base-patch32"
        revision = "main"
        precision = "auto"

        [manifest]
        image_column = "image_path"
        id_column = "product_id"
        image_root = "images"

        [[attribute]]
        name = "category"
        labels = ["shirt", "dress", {name = "shoes", prompts = ["A photo of a pair of shoes."]}]
        templates = ["A photo of a {label}."]
        truth_column = "category"
        review_below = 0.5
        """,
    )
    (attribute,) = settings.attributes
    assert attribute.label_names == ("shirt", "dress", "shoes")
    assert attribute.prompts(attribute.labels[2]) == ("A photo of a pair of shoes.",)
    assert (settings.model.name, settings.manifest.image_root) == ("openai/clip-vit-base-patch32", str(tmp_path / "images"))


def test_an_empty_file_is_the_defaults(tmp_path: Path):
    assert read(tmp_path, "") == Settings()


def test_the_starter_file_is_valid_and_all_of_it_is_known(tmp_path: Path):
    assert load_settings("manifest.parquet", write_starter(tmp_path)).attributes[0].label_names == ("shirt", "dress", "shoes")
    everything = [line.removeprefix("# ") if " = " in line or "# [" in line else line for line in STARTER.splitlines()[1:]]
    (tmp_path / "tagger.toml").write_text("\n".join(everything).replace("labels may have", "#"))
    assert load_settings("manifest.parquet", tmp_path / "tagger.toml").attributes[0].review_below == 0.5


def test_a_folder_beside_the_file_is_the_model(tmp_path: Path):
    (tmp_path / "clip").mkdir()
    assert read(tmp_path, '[model]\nname = "clip"\n').model.name == str(tmp_path / "clip")


def test_the_file_beside_the_manifest_comes_before_the_one_here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    (tmp_path / "catalogue").mkdir()
    monkeypatch.chdir(tmp_path)
    assert find_settings_file(tmp_path / "catalogue") is None
    (tmp_path / "tagger.toml").touch()
    assert find_settings_file(tmp_path / "catalogue") == Path("tagger.toml")
    (tmp_path / "catalogue" / "tagger.toml").touch()
    assert find_settings_file(tmp_path / "catalogue") == tmp_path / "catalogue" / "tagger.toml"


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("[modle]\n", 'modle: unknown key; did you mean "model"?'),
        ("[model]\nfoo = 1\n", "model.foo: unknown key; known keys: name, revision, backend, precision"),
        (
            '[model]\nprecision = "fp8"\n',
            "model.precision: input should be 'auto', 'fp32', 'bf16', 'fp16' or 'int8', found 'fp8'; correct it",
        ),
        ("[model]\nname = 3\n", "model.name: input should be a valid string, found 3; correct it"),
        ("[[attribute]]\nlabels = []\n", 'attribute "0": name: expected this key, found none; add it'),
        ('[[attribute]]\nname = "kind"\n', 'attribute "kind": labels: expected this key, found none; add it'),
        (
            '[[attribute]]\nname = "kind"\nlabels = []\n',
            'attribute "kind": labels: expected at least 2 labels, found 0; add labels to choose between',
        ),
        (
            '[[attribute]]\nname = "kind"\nlabels = ["hat", "bag", "hat"]\n',
            'attribute "kind": labels: expected every label once, found hat more than once; remove one',
        ),
        (
            ATTRIBUTE + 'templates = ["A photo of a shirt."]\n',
            'attribute "kind": template "A photo of a shirt." has no {label}; write for example "A photo of a {label}."',
        ),
        (ATTRIBUTE + 'trut_column = "x"\n', 'attribute "kind": trut_column: unknown key; did you mean "truth_column"?'),
        (
            ATTRIBUTE + "review_below = 2\n",
            'attribute "kind": review_below: input should be less than or equal to 1, found 2; correct it',
        ),
        (ATTRIBUTE + ATTRIBUTE, "attribute: expected every attribute name once, found kind more than once; rename one"),
        (
            '[[attribute]]\nname = "kind"\nlabels = ["hat", {name = "bag", prompt = ["a bag"]}]\n',
            'attribute "kind": labels[1].prompt: unknown key; did you mean "prompts"?',
        ),
        ("[[attribute]]\nname = 'my kind'\n" + 'labels = ["a", "b"]\n', 'attribute "my kind": name: string should match pattern'),
        (
            '[images]\nallow_hosts = ["https://cdn.example.com"]\n',
            'images.allow_hosts: expected host names such as "cdn.example.com" or "cdn.example.com:8443", found '
            "'https://cdn.example.com'",
        ),
        *(
            (f"[images]\nallow_hosts = ['{host}']\n", "images.allow_hosts: expected host names such as")
            for host in (
                "*",
                "*.example.com",
                "a..b",
                "cdn.example.com.",
                "user@a.com",
                "a.com:0",
                "a.com:65536",
                "[::1]",
                "h\u00fct.de",
            )
        ),
        (
            '[images]\nallow_buckets = ["photos"]\n',
            'images.allow_buckets: expected buckets such as "s3://photos", "gs://photos" or "az://photos", found \'photos\'',
        ),
        ('[images]\nallow_buckets = ["s3://photos/shoes"]\n', "images.allow_buckets: expected buckets such as"),
        (
            '[images]\nallow_private_networks = ["10.1.0.1/16"]\n',
            "images.allow_private_networks: expected ranges of addresses such as \"10.1.0.0/16\", found '10.1.0.1/16'",
        ),
        ("[gates]\nmin_accuracy = 90\n", "gates.min_accuracy: input should be less than or equal to 1, found 90; correct it"),
        ("[gates]\nmin_labelled_rows = -1\n", "gates.min_labelled_rows: input should be greater than or equal to 0, found -1"),
        ("[gates]\nmax_error = 3\n", 'gates.max_error: unknown key; did you mean "max_errors"?'),
        ("attribute = 3\n", "attribute: input should be a valid tuple, found 3; correct it"),
        ("attribute = [3]\n", 'attribute "0": input should be'),
        ("model = 3\n", "model: input should be"),
    ],
)
def test_a_mistake_names_file_key_and_fix(tmp_path: Path, text: str, line: str):
    with pytest.raises(ConfigError) as caught:
        read(tmp_path, text)
    assert str(caught.value).splitlines()[0].startswith(f"{tmp_path / 'tagger.toml'}: {line}")


def test_hosts_are_compared_as_they_are_resolved(tmp_path: Path):
    settings = read(tmp_path, '[images]\nallow_hosts = ["CDN.Example.com:443", "xn--ht-xka.de:8443"]\n')
    assert settings.images.allow_hosts == ("cdn.example.com", "xn--ht-xka.de:8443")


@pytest.mark.parametrize(("scheme", "package", "extra"), [("s3", "s3fs", "s3"), ("gs", "gcsfs", "gcs"), ("az", "adlfs", "azure")])
def test_a_bucket_without_its_client_names_the_extra(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, scheme: str, package: str, extra: str
):
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(ConfigError, match=re.escape(f"found none; pip install 'tagger[{extra}]'")):
        read(tmp_path, f'[images]\nallow_buckets = ["{scheme}://photos"]\n')


def test_options_beat_the_file_and_both_are_validated_together(tmp_path: Path):
    path = tmp_path / "tagger.toml"
    path.write_text('[model]\nbackend = "torch"\n[images]\ntimeout = 5\nallow_formats = ["GIF"]\n')
    settings = load_settings("manifest.parquet", path, backend="openvino", image_timeout=7.5)
    assert (settings.model.backend, settings.images.timeout, settings.images.allow_formats) == ("openvino", 7.5, ("GIF",))
    with pytest.raises(ConfigError) as caught:
        load_settings("manifest.parquet", path, allow_formats=["EPS"], image_timeout=float("inf"))
    assert [line.split(":")[0] for line in str(caught.value).splitlines()] == ["--allow-formats", "--image-timeout"]


def test_paths_start_where_they_are_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    shop = tmp_path / "shop"
    (shop / "model").mkdir(parents=True)
    monkeypatch.setenv("HOME", str(tmp_path))
    everything = '[model]\nname = "model"\n[manifest]\nimage_root = "photos"\n[cache]\nfolder = "~/kept"\n'
    (shop / "tagger.toml").write_text(everything + '[fallback]\ncheckpoint = "r.safetensors"\n')
    settings = load_settings("shop/manifest.parquet")
    assert (settings.model.name, settings.manifest.image_root) == ("shop/model", "shop/photos")
    assert (settings.cache.folder, settings.fallback and settings.fallback.checkpoint) == (
        str(tmp_path / "kept"),
        "shop/r.safetensors",
    )
    named = load_settings("shop/manifest.parquet", model="model", image_root="~/pictures", cache="here")
    assert (named.model.name, named.manifest.image_root, named.cache.folder) == ("model", str(tmp_path / "pictures"), "here")


def test_the_revision_of_a_file_is_not_that_of_another_model(tmp_path: Path):
    path = tmp_path / "tagger.toml"
    path.write_text('[model]\nname = "a/b"\nrevision = "abc"\n')
    assert load_settings("m.parquet", path).model.revision == "abc"
    assert load_settings("m.parquet", path, model="c/d").model.revision is None
    assert load_settings("m.parquet", path, model="c/d", revision="def").model.revision == "def"


@pytest.mark.parametrize(
    ("cache", "enabled", "folder"), [(None, False, None), (False, False, None), (True, True, None), ("there", True, "there")]
)
def test_a_cache_that_is_named_is_used(cache: object, enabled: bool, folder: str | None):
    settings = load_settings("m.parquet", {"cache": {"enabled": False}}, cache=cache)  # type: ignore[arg-type]
    assert (settings.cache.enabled, settings.cache.folder) == (enabled, folder)


@pytest.mark.parametrize("value", ["inf", "nan", "1.5", "-0.1"])
@pytest.mark.parametrize(
    ("section", "key"), [("fallback", "below"), ("gates", "min_accuracy"), ("gates", "max_error_rate"), ("cache", "max_gb")]
)
def test_a_number_that_is_none_is_refused(tmp_path: Path, section: str, key: str, value: str):
    if (key, value) == ("max_gb", "1.5"):
        return
    checkpoint = 'checkpoint = "r.safetensors"\n' if section == "fallback" else ""
    with pytest.raises(ConfigError, match=f"{section}.{key}: "):
        read(tmp_path, f"[{section}]\n{checkpoint}{key} = {value}\n")


def _tables(model: type[BaseModel], path: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    yield path
    for name, field in model.model_fields.items():
        for inner in _models_in(field.annotation):
            yield from _tables(inner, (*path, field.alias or name))


@pytest.mark.parametrize("path", list(_tables(Settings)), ids=".".join)
def test_a_typo_is_said_in_every_table(path: tuple[str, ...]):
    content: Any = {"tyop": 1}
    for key in reversed(path):
        content = {key: [content] if key in ("attribute", "labels") else content}
    with pytest.raises(ConfigError, match="tyop: unknown key; (did you mean|known keys)"):
        load_settings("m.parquet", content)
