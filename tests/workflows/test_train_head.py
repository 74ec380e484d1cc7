"""`tagger train head` and runs with what it wrote."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

import tagger
from tagger.core import shutdown
from tagger.core.errors import GateError, ManifestError, ModelError, UsageError
from tagger.settings.options import HEAD_METHODS
from tagger.tagging.head_file import read_head
from tagger.training import choose_head, prompt_learning
from tests.conftest import SAMPLE
from tests.training.test_resnet18 import ATTRIBUTE, CONFIG, LABELS

MODEL = SAMPLE / "model"
# Labels that mean nothing: the prompts know nothing of them, the rows all.
CODES = {label: f"A0{number}" for number, label in enumerate(LABELS)}
CODED = {**CONFIG, "attribute": [{**ATTRIBUTE, "labels": list(CODES.values())}]}


@pytest.fixture(scope="module")
def coded(tmp_path_factory: pytest.TempPathFactory) -> Path:
    table = pq.read_table(SAMPLE / "manifest.parquet")
    table = table.filter([value in LABELS for value in table["category"].to_pylist()])
    codes = pa.array([CODES[value] for value in table["category"].to_pylist()])
    path = tmp_path_factory.mktemp("coded") / "coded.parquet"
    pq.write_table(table.set_column(table.schema.get_field_index("category"), "category", codes), path)
    return path


def train(manifest: Path, output: Path, config: dict[str, Any] = CODED, **options: Any) -> Any:
    recipe = tagger.HeadRecipe(**{"method": "gda", **options.pop("recipe", {})})
    return tagger.train_head(manifest, output, config, recipe=recipe, machine=tagger.Machine(workers=0), model=MODEL, **options)


def test_a_head_learns_labels_that_mean_nothing(coded: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture):
    caplog.set_level("INFO")
    path = tmp_path / "head.safetensors"
    trained = train(coded, path)
    assert trained.written
    assert trained.choice.accuracy > trained.choice.zero_shot_accuracy + 0.2
    head = read_head(str(path))
    assert (head.description.method, len(head.fitted)) == ("gda", head.description.rows)
    config = {**CODED, "attribute": [{**CODED["attribute"][0], "head": str(path)}]}
    summary = tagger.run(coded, config, machine=tagger.Machine(workers=0), model=MODEL)
    assert summary.evaluation.attributes["category"].accuracy > 0.9
    assert summary.encoded_images == 0
    again = train(coded, path, overwrite=True)  # no new row: nothing to compare with
    assert (again.duel, again.written) == (None, True)
    assert "the head that is there is not compared: it was fitted on" in caplog.text
    assert read_head(str(path)).fingerprint == head.fingerprint


def test_a_better_earlier_head_stays(coded: Path, tmp_path: Path):
    path, table = tmp_path / "head.safetensors", pq.read_table(coded)
    few = tmp_path / "few.parquet"
    pq.write_table(table.slice(0, 30), few)
    train(few, path, recipe={"force": True})
    before = path.read_bytes()
    trained = train(coded, path, overwrite=True)
    assert trained.duel.rows > 0
    assert trained.written == (trained.duel.better >= 0.5)
    assert (path.read_bytes() == before) != trained.written


def test_an_earlier_head_that_is_surely_worse_than_the_prompts_gives_way_to_them(
    coded: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    path, table = tmp_path / "head.safetensors", pq.read_table(SAMPLE / "manifest.parquet")
    place = table.schema.get_field_index("category")
    table = table.filter([value in LABELS for value in table["category"].to_pylist()])
    first = table.slice(0, 40)
    wrong = {label: LABELS[number - 1] for number, label in enumerate(LABELS)}
    mistaken = pa.array([wrong[value] for value in first["category"].to_pylist()])
    pq.write_table(first.set_column(place, "category", mistaken), tmp_path / "mistaken.parquet")
    pq.write_table(table.slice(40), tmp_path / "labelled.parquet")
    train(tmp_path / "mistaken.parquet", path, CONFIG, recipe={"force": True})
    monkeypatch.setattr(choose_head, "SURE", 2.0)  # nothing beats the prompts
    trained = train(tmp_path / "labelled.parquet", path, CONFIG, overwrite=True)
    assert (trained.written, trained.choice.method) == (True, "zero-shot")
    assert trained.duel.better > 0.95
    assert trained.to_text().startswith(
        f"zero-shot: accuracy {trained.choice.accuracy:.1%} on {trained.choice.rows} rows; nothing "
    )
    assert trained.to_text().endswith(f"the earlier head {trained.duel.earlier}; the prompts alone are written")
    description = read_head(str(path)).description
    assert (description.method, description.held_out.interval, description.held_out.probability) == ("zero-shot", None, None)
    with pytest.raises(GateError, match="found none; the one that is there stays"):
        train(tmp_path / "labelled.parquet", path, CONFIG, overwrite=True)


def test_rows_that_are_held_out_do_not_fit(coded: Path, tmp_path: Path):
    trained = train(coded, tmp_path / "head.safetensors", recipe={"hold_out": 0.3})
    assert trained.set_aside > 0
    assert f"{trained.set_aside} labelled rows were set aside" in trained.to_text()
    config = {**CODED, "attribute": [{**CODED["attribute"][0], "head": str(tmp_path / "head.safetensors")}]}
    content = tagger.calibrate(coded, tmp_path / "c.json", config, machine=tagger.Machine(workers=0), model=MODEL)
    found = content.attributes["category"]
    assert list(found.sources) == ["head"]
    assert found.fitted_rows + found.held_out_rows <= trained.set_aside


def test_what_is_no_better_is_not_written(coded: Path, tmp_path: Path):
    table, path = pq.read_table(coded), tmp_path / "head.safetensors"
    two = tmp_path / "two.parquet"
    rows = [table["category"].to_pylist().index(code) for code in list(CODES.values())[:2]]
    pq.write_table(table.take(rows), two)
    with pytest.raises(GateError, match="expected a head that beats zero-shot on held-out rows, found none"):
        train(two, path)
    path.write_bytes(b"yesterday's")
    with pytest.raises(GateError, match="found none; the one that is there stays; label more"):
        train(two, path, overwrite=True)
    path.unlink()
    one = tmp_path / "one.parquet"
    pq.write_table(table.take(rows[:1]), one)
    with pytest.raises(ManifestError, match="expected rows of two labels or more to learn from, found 1 rows of 1"):
        train(one, path)
    with pytest.raises(ManifestError, match="found 0 rows of 0"):
        train(coded, path, CONFIG)  # the labels are others
    assert not path.exists()


def test_learned_prompts_are_a_head_like_others(coded: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(prompt_learning, "STEPS", 5)
    path = tmp_path / "head.safetensors"
    trained = train(coded, path, recipe={"method": "prompts", "force": True})
    assert (trained.written, trained.choice.method, trained.choice.folds) == (True, "prompts", 5)
    again = train(coded, path, recipe={"method": "prompts", "force": True}, overwrite=True)
    assert again.choice.accuracy == trained.choice.accuracy
    head = read_head(str(path))
    assert head.description.method == "prompts"
    config = {**CODED, "attribute": [{**CODED["attribute"][0], "head": str(path)}]}
    output = tagger.Output(path=tmp_path / "tagged.parquet", report=False)
    summary = tagger.run(coded, config, output=output, machine=tagger.Machine(workers=0), model=MODEL)
    assert set(summary.read()["category_source"].to_pylist()) == {"head", None}  # None: the truncated image


@pytest.mark.parametrize(
    ("scale", "stopped", "error", "words"),
    [
        (float("nan"), False, ModelError, "expected a finite loss, found nan at step 1 of 100"),
        (None, True, KeyboardInterrupt, None),
    ],
)
def test_learning_that_fails_writes_nothing(
    coded: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    scale: float | None,
    stopped: bool,
    error: type,
    words: str | None,
):
    dispersion = prompt_learning.dispersion

    def go_wrong(features: torch.Tensor, t: float) -> torch.Tensor:
        monkeypatch.setattr(shutdown, "requested", stopped)
        return dispersion(features, t) * (1 if scale is None else scale)

    monkeypatch.setattr(prompt_learning, "dispersion", go_wrong)
    with pytest.raises(error, match=words):
        train(coded, tmp_path / "head.safetensors", recipe={"method": "prompts"})
    monkeypatch.setattr(shutdown, "requested", False)
    assert list(tmp_path.glob("*.safetensors*")) == []


def test_what_cannot_be_meant_is_refused(coded: Path, tmp_path: Path):
    with pytest.raises(UsageError, match="--method svm: expected one of auto, gda"):
        tagger.HeadRecipe(method="svm")
    with pytest.raises(UsageError, match="--hold-out: expected a share from 0 on and below 1, found 1"):
        tagger.HeadRecipe(hold_out=1)
    with pytest.raises(UsageError, match="--product-column none: expected a column of single values"):
        train(coded, tmp_path / "head.safetensors", recipe={"product_column": "none"})
    with pytest.raises(UsageError, match="expected a name that ends with .safetensors"):
        train(coded, tmp_path / "head.json")


def test_all_methods_can_be_named():
    from tagger.training.head_methods import METHODS

    assert list(HEAD_METHODS) == ["auto", *METHODS, "prompts"]
