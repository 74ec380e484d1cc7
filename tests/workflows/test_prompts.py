"""`tagger prompts` on the sample catalogue: tried, judged on other rows, written where it is surely better."""

from __future__ import annotations

import json
import tomllib
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner

import tagger
from tagger.cli.main import cli
from tagger.core.errors import ConfigError, ManifestError, UsageError
from tagger.evaluation.prompt_comparison import PromptComparison
from tests.conftest import SAMPLE
from tests.helpers.keywords import machine_keywords

LABELS = ["dress", "bag", "ankle boot"]
SETTINGS = f"""\
[model]
name = "{SAMPLE / "model"}"

[manifest]
image_root = "{SAMPLE / "images"}"

[[attribute]]
name = "category"
labels = {json.dumps(LABELS)} # three
templates = ["{{label}}"] # as found
truth_column = "category"
"""


def write_catalogue(folder: Path, settings: str = SETTINGS) -> Path:
    """Those rows of the sample catalogue that have one of three labels, one with a bad image, and settings beside them."""
    table = pq.read_table(SAMPLE / "manifest.parquet")
    wanted = [value in LABELS for value in table["category"].to_pylist()]
    pq.write_table(table.filter(wanted), folder / "labelled.parquet")
    (folder / "tagger.toml").write_text(settings)
    return folder / "labelled.parquet"


def try_prompts(manifest: Path, **options: Any) -> PromptComparison:
    names = [name for name in ("descriptions", "product_column", "write", "seed") if name in options]
    trial = tagger.PromptTrial(**{name: options.pop(name) for name in names})
    return tagger.prompts(manifest, trial=trial, **machine_keywords(workers=0, **options))


@pytest.fixture(scope="module")
def bad_prompts(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A catalogue whose settings name each label by the next one's word."""
    mixed = [{"name": label, "prompts": [f"A photo of a {LABELS[number - 1]}."]} for number, label in enumerate(LABELS)]
    labels = ", ".join(f'{{name = "{one["name"]}", prompts = {json.dumps(one["prompts"])}}}' for one in mixed)
    return write_catalogue(tmp_path_factory.mktemp("bad"), SETTINGS.replace(json.dumps(LABELS), f"[{labels}]"))


def test_the_settings_accuracy_is_that_of_a_run(tmp_path: Path):
    manifest = write_catalogue(tmp_path)
    found = try_prompts(manifest)
    table = tagger.run(manifest, output=tagger.Output(report=False), machine=tagger.Machine(workers=0)).read()
    right = [
        truth == tag
        for truth, tag in zip(table["category"].to_pylist(), table["category_label"].to_pylist(), strict=True)
        if tag is not None
    ]
    first = found.scores[0]
    assert (first.name, found.rows + found.choosing_rows) == ("settings", len(right))
    both = first.accuracy * found.rows + first.choosing_accuracy * found.choosing_rows
    assert both == pytest.approx(sum(right))
    assert [score.name for score in found.scores[1:]] == ["study", "ensemble", "fashion", "random words"]


def test_a_surely_better_set_is_written_and_used(bad_prompts: Path):
    file = bad_prompts.with_name("tagger.toml")
    before = file.read_text()
    found = try_prompts(bad_prompts, write=True)
    best = found.score_of(found.chosen)
    assert (found.better, found.written, best.control) == (True, str(file), False)
    assert "# three" in file.read_text()
    [attribute] = tomllib.loads(file.read_text())["attribute"]
    assert attribute["templates"] == list(best.templates)
    again = try_prompts(bad_prompts)
    assert again.scores[0].accuracy == pytest.approx(best.accuracy)
    assert again.scores[0].prompts == best.prompts
    assert not again.better
    file.write_text(before)


def test_what_is_not_better_is_not_written(tmp_path: Path):
    manifest = write_catalogue(tmp_path)
    (tmp_path / "d.json").write_text(json.dumps({label: ["A thing."] for label in LABELS}))
    done = CliRunner().invoke(
        cli, ["prompts", str(manifest), "--workers", "0", "--write", "--descriptions", str(tmp_path / "d.json")]
    )
    assert done.exit_code == 0, done.output
    assert done.stdout.endswith("nothing was written\n")
    assert (tmp_path / "tagger.toml").read_text() == SETTINGS
    assert "descriptions" in done.stdout
    assert "most confused, and what each set changes" in done.stdout


def test_descriptions_say_what_codes_do_not(tmp_path: Path, caplog: pytest.LogCaptureFixture):
    codes = {label: f"A0{number}" for number, label in enumerate(LABELS)}
    settings = SETTINGS.replace(json.dumps(LABELS), json.dumps([*codes.values()])) + 'calibration = "c.json"\n'
    manifest = write_catalogue(tmp_path, settings)
    table = pq.read_table(manifest).to_pandas()
    table["category"] = table["category"].replace(codes)
    table.to_parquet(manifest)
    texts = {code: [f"A photo of a {label}.", f"a product photo of a {label}"] for label, code in codes.items()}
    (tmp_path / "d.json").write_text(json.dumps(texts))
    found = try_prompts(manifest, write=True, descriptions=tmp_path / "d.json")
    assert (found.chosen, found.better) == ("descriptions", True)
    assert "Over random words in their place, what descriptions say is worth +" in found.to_text()
    [attribute] = tomllib.loads((tmp_path / "tagger.toml").read_text())["attribute"]
    assert attribute["labels"] == [{"name": code, "prompts": prompts} for code, prompts in texts.items()]
    assert attribute["templates"] == ["{label}"]
    assert "c.json was fitted with the former prompts: run `tagger calibrate` before the next run" in caplog.text


@pytest.mark.parametrize(("column", "options"), [("product_id", {}), ("sku", {"product_column": "sku"})])
def test_rows_of_one_product_choose_or_judge_together(tmp_path: Path, column: str, options: dict[str, Any]):
    manifest = write_catalogue(tmp_path)
    table = pq.read_table(manifest).to_pandas()
    table.assign(**{column: table["category"]}).to_parquet(manifest)  # three products: dresses and boots choose, bags judge
    found = try_prompts(manifest, **options)
    assert (found.rows, found.choosing_rows) == ((table["category"] == "bag").sum(), (table["category"] != "bag").sum() - 1)


def test_json_is_what_python_gets(tmp_path: Path):
    manifest = write_catalogue(tmp_path)
    done = CliRunner().invoke(cli, ["prompts", str(manifest), "--workers", "0", "--json"])
    assert PromptComparison.model_validate_json(done.stdout) == try_prompts(manifest)


@pytest.mark.parametrize(
    ("options", "error", "words"),
    [
        ({"model": "r.safetensors"}, UsageError, "--model: expected a CLIP, which reads prompts, found r.safetensors"),
        ({"write": True, "labels": LABELS}, UsageError, "--write and --labels: expected the labels of the file"),
        ({"write": True, "config": {}}, UsageError, "--write: expected a tagger.toml to write into, found none"),
        ({"attribute": "colour"}, UsageError, "--attribute colour: expected one of category"),
        ({"labels": ["hat", "cape"]}, ManifestError, "expected at least 20 labelled, readable rows of at least 2 labels"),
        ({"labels": ["dress", "cape"]}, ManifestError, "found 29 of 1; label more"),
        ({"product_column": "none"}, UsageError, "--product-column none: expected a column of single values"),
        ({"descriptions": "none.json"}, ConfigError, "--descriptions none.json: expected a readable file"),
        ({"labels": ["dress", "bag " * 100]}, ConfigError, "expected at most 77 tokens, which the model reads"),
    ],
)
def test_mistakes_are_one_line(tmp_path: Path, options: dict[str, Any], error: type[Exception], words: str):
    manifest = write_catalogue(tmp_path)
    if "bag " * 100 in options.get("labels", ()):
        table = pq.read_table(manifest).to_pandas()
        table["category"] = table["category"].replace({"bag": "bag " * 100})
        table.to_parquet(manifest)
    with pytest.raises(error) as raised:
        try_prompts(manifest, **options)
    assert words in str(raised.value)
    assert "\n" not in str(raised.value)
    assert (tmp_path / "tagger.toml").read_text() == SETTINGS


def test_no_truth_is_a_mistake(tmp_path: Path):
    manifest = write_catalogue(tmp_path, SETTINGS.replace('truth_column = "category"\n', ""))
    with pytest.raises(ConfigError, match="expected a truth_column"):
        try_prompts(manifest)


def test_settings_that_cannot_be_edited_are_said_before_any_work(tmp_path: Path):
    manifest = write_catalogue(tmp_path, f'labels = {json.dumps(LABELS)}\n[model]\nname = "{SAMPLE / "model"}"\n')
    with pytest.raises(ConfigError, match='expected an \\[\\[attribute\\]\\] named "category"'):
        try_prompts(manifest, write=True)
