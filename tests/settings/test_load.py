"""tagger.toml: what is wrong, where, and what to do."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import pytest

from tagger.core.errors import ConfigError
from tagger.settings.load import find_settings_file, load_settings
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
