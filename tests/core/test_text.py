"""No name in a catalogue makes up a line, drives a terminal, or carries a secret out."""

from __future__ import annotations

import json
import logging
import os
import pickle
import sys
import unicodedata

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

import tagger
from tagger.cli.main import main
from tagger.core.errors import ConfigError, ImageError, ManifestError
from tagger.core.text import folded, listed, one_line, printable, to_json, without_secrets
from tagger.evaluation.metrics import Evaluator

HOSTILE = "a\ntagger: all is well\r\x1b[2J\x1b]0;title\x07\x9b31m\u202egnp.\u2066\u2028\0\x7f"
URL = "https://user:word@cdn.example.com/1.jpg?X-Amz-Signature=5ec2e7#token=5ec2e7"
ANY_TEXT = st.text(st.characters(exclude_categories=()))


@pytest.mark.parametrize("text", ["Größe é", "漢字　かな", "قمیص آبی‌رنگ", "सफ़ेद क्‍ष", "👩‍👧", "50 €", "C:\\photos\\1.jpg", ""])
def test_letters_of_all_scripts_stay_readable(text: str):
    assert printable(text) == text


def test_control_characters_become_escapes():
    expected = r"a\ntagger: all is well\r\x1b[2J\x1b]0;title\x07\x9b31m\u202egnp.\u2066\u2028\x00\x7f"
    assert printable(HOSTILE) == expected
    assert printable("\udcff \ud800 \U000e0041") == r"\udcff \ud800 \U000e0041"


@given(ANY_TEXT)
def test_any_text_becomes_one_line_that_can_be_written(text: str):
    line = one_line(text)
    assert len(line.splitlines()) <= 1
    assert not {unicodedata.category(character) for character in line.translate({0x200C: None, 0x200D: None})} & {
        "Cc",
        "Cf",
        "Cs",
    }
    line.encode()


@given(
    st.recursive(st.text(st.characters(exclude_categories=())), lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner))
)
def test_json_is_printable_and_says_the_same(value: object):
    written = to_json(value)
    assert all(printable(line) == line for line in written.split("\n"))
    if "://" not in written:
        assert json.loads(written) == value


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("https://cdn.example.com/a/1.jpg", "https://cdn.example.com/a/1.jpg"),
        ("https://cdn.example.com:8443/1@2x.jpg", "https://cdn.example.com:8443/1@2x.jpg"),
        (URL, "https://cdn.example.com/1.jpg?…"),
        (f"{URL}: expected 200", "https://cdn.example.com/1.jpg?…: expected 200"),
        (f"found '{URL}'; correct it", "found 'https://cdn.example.com/1.jpg?…'; correct it"),
        (f"{URL} and {URL}", "https://cdn.example.com/1.jpg?… and https://cdn.example.com/1.jpg?…"),
        ("s3://key:secret@bucket/path", "s3://bucket/path"),
        ("https://token@example.com", "https://example.com"),
        ("https://a:b@c@example.com/", "https://example.com/"),
        ("HTTPS://U:P@EXAMPLE.COM/?q", "HTTPS://EXAMPLE.COM/?…"),
        ("https://example.com/1.jpg?a=1\nsig=5ec2e7", "https://example.com/1.jpg?…"),
        ("what is a URL? nobody knows", "what is a URL? nobody knows"),
    ],
)
def test_urls_lose_users_passwords_queries_and_fragments(text: str, shown: str):
    assert one_line(text) == shown


def test_keys_that_differ_only_in_their_secrets_lose_no_count():
    counts = {"https://a/?k=5ec2e7": 1, "https://a/?…": 2, "https://a/?k=5ec2e8": {"https://u:5ec2e9@b": 4, "https://b": 5}}
    assert json.loads(to_json(counts)) == {
        "https://a/?…": 1,
        "https://a/?… (2)": 2,
        "https://a/?… (3)": {"https://b": 4, "https://b (2)": 5},
    }


@given(st.dictionaries(st.tuples(st.sampled_from(["a", "https://a/1", "https://u@a/1"]), st.text(max_size=2)), st.integers()))
def test_json_keeps_every_value_of_a_mapping(values: dict[tuple[str, str], int]):
    joined = {f"{url}?{secret}": value for (url, secret), value in values.items()}
    assert list(json.loads(to_json(joined)).values()) == list(joined.values())


def test_a_line_has_an_end():
    assert one_line("x" * 10_000_000) == "x" * 2000 + " … (10,000,000 characters)"


def test_an_error_is_printable_also_after_a_trip_between_processes():
    for error in (ManifestError(HOSTILE + URL), ImageError("missing", HOSTILE + URL), ConfigError(HOSTILE, URL)):
        lines = str(error).split("\n")
        assert len(lines) == len(error.args) if isinstance(error, ConfigError) else len(lines) == 1
        assert all(printable(line) == line and "5ec2e7" not in line and "word" not in line for line in lines)
        assert str(pickle.loads(pickle.dumps(error))) == str(error)


def test_an_evaluation_is_printable():
    evaluator = Evaluator({"kind": (HOSTILE, [HOSTILE, URL])})
    evaluator.update(
        pa.table({HOSTILE: [HOSTILE, URL, HOSTILE + "?", None], "kind_label": [HOSTILE] * 4, "kind_source": ["clip"] * 4})
    )
    evaluation = evaluator.result()
    for text in (evaluation.to_text(), evaluation.to_json()):
        assert all(printable(line) == line for line in text.split("\n"))
        assert "5ec2e7" not in text
    assert [line for line in evaluation.to_text().split("\n") if line.startswith("tagger")] == []
    assert json.loads(evaluation.to_json())["kind"]["labels"][0] == HOSTILE


def test_a_hostile_catalogue_leaves_a_clean_log_and_summary_and_its_own_columns_untouched(
    small_clip, pictures, tmp_path, monkeypatch, capsys
):
    labels = [HOSTILE, "dress", "shoes"]
    table = pa.table({"image": [f"{HOSTILE}.png", URL, "0000.png", None], "category": [*labels, HOSTILE], HOSTILE: [HOSTILE] * 4})
    manifest = tmp_path / "ma\x1b[31m\nnifest.parquet"
    pq.write_table(table, manifest)
    arguments = ["run", str(manifest), "--model", str(small_clip), "--image-root", str(pictures), "--workers", "0"]
    monkeypatch.setattr(sys, "argv", ["tagger", *arguments])
    try:
        main()
    except SystemExit as end:
        assert not end.code  # noqa: PT017
    finally:
        logging.getLogger("tagger").handlers = []
    output, errors = capsys.readouterr()
    result = manifest.with_name("ma\x1b[31m\nnifest.tagged.parquet")
    folder = result.parent / "ma\x1b[31m\nnifest.tagged.run"
    summary = (folder / "summary.json").read_text()
    for text in (output, errors, summary, (folder / "log.jsonl").read_text(), (folder / "metrics.prom").read_text()):
        assert all(printable(line) == line for line in text.split("\n"))
        assert "5ec2e7" not in text
        assert "word" not in text
    assert [line[:8] for line in errors.splitlines()] == ["tagger: "] * len(errors.splitlines())
    assert "tagger: all is well" not in [*output.splitlines(), *errors.splitlines()]
    written = pq.read_table(result)
    assert written.select(table.column_names).equals(table)
    for reason in filter(None, written["tag_reason"].to_pylist()):
        assert printable(reason) == reason
        assert "5ec2e7" not in reason
    assert json.loads(summary)["errors"] == {"forbidden-path": 2, "missing": 1}


def test_settings_in_the_summary_carry_no_secrets(small_clip, pictures, write_manifest):
    settings = {"attribute": [{"name": "kind", "labels": [URL, "b"]}]}
    summary = tagger.run(write_manifest(["0000.png"]), settings, model=small_clip, image_root=pictures)
    assert "5ec2e7" not in summary.to_json()
    assert without_secrets(URL) in summary.to_json()


def test_a_manifest_whose_name_is_no_utf_8_is_refused_in_one_line(tmp_path, capsys, monkeypatch):
    manifest = tmp_path / os.fsdecode(b"m\xff.parquet")
    manifest.write_bytes(b"PAR1")
    monkeypatch.setattr(sys, "argv", ["tagger", "run", str(manifest)])
    with pytest.raises(SystemExit, match="65"):
        main()
    assert capsys.readouterr().err.startswith(f"tagger: {tmp_path}/m\\udcff.parquet: expected a readable Parquet file, found")


@pytest.mark.parametrize(
    "text",
    ["Größe L", "GRÖSSE L", "gro\u0308ße\u00a0l", " größe\tL\r\n", "\ufeffGröße\u200b \u3000L", "größe Ⓛ", "Größe  L"],
)
def test_case_space_and_unicode_form_are_folded_away(text: str):
    assert folded(text) == "grösse l"


@pytest.mark.parametrize(("one", "other"), [("t-shirt", "tshirt"), ("t shirt", "tshirt"), ("größe", "grosse"), ("men", "women")])
def test_other_letters_are_other_texts(one: str, other: str):
    assert folded(one) != folded(other)


@given(ANY_TEXT)
def test_folding_is_done_once_and_for_all(text: str):
    found = folded(text)
    assert folded(found) == found
    assert folded(unicodedata.normalize("NFD", text)) == folded(unicodedata.normalize("NFC", text)) == found


def test_values_are_listed_in_quotes_with_their_numbers():
    assert listed({"a ": 1200, "b": 2, "c\n": 1}, 2) == '1,200 "a ", 2 "b" and 1 more values'
    assert listed({"c\n": 1}) == '1 "c\\n"'
