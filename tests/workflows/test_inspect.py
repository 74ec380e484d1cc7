"""`tagger inspect`: what would end a run ends it, with the run's words; the rest is told, from a few images and no weights."""

from __future__ import annotations

import json
import logging
import os
import shutil
import subprocess
import sys

import pytest
from safetensors.torch import load_file, save_file

import tagger
from tagger.core.errors import ConfigError, ManifestError, ModelError
from tagger.reports.inspection import duration
from tests.helpers.hub_server import HubServer

LABELS = ["shirt", "dress", "shoes"]


def command(*arguments: object, **environment: str) -> subprocess.CompletedProcess[str]:
    line = [sys.executable, "-W", "error::UserWarning", "-m", "tagger", "inspect"]
    told = {**os.environ, **environment}
    return subprocess.run([*line, *map(str, arguments)], env=told, capture_output=True, text=True, check=False)


def test_the_sample_catalogue_is_told(small_clip):
    found = tagger.inspect(small_clip.parent / "manifest.parquet")
    assert (found.rows, found.files, found.image_column, found.references.kinds) == (600, 1, "image_path", {"paths": 600})
    assert found.columns["price_cents"] == "int32"
    category, department = found.questions["category"], found.questions["department"]
    assert (len(category.labels), sum(category.labels.values())) == (10, 30)
    assert (sum(category.balance.labels.values()), category.balance.without, category.balance.other_rows) == (286, 314, 0)
    assert department.balance.labels["footwear"] == 82
    assert (found.sample.drawn, found.sample.readable, found.sample.formats) == (64, 64, {"PNG": 64})
    assert (found.sample.width, found.sample.height) == ((28, 28), (28, 28))
    assert found.model["here"]
    assert found.estimate.seconds > found.estimate.start > 0
    assert found.estimate.main_bytes > 0
    assert found.warnings == ()


def test_the_command_prints_it_and_as_json(small_clip, pictures, write_manifest):
    manifest = write_manifest(["0000.png", "0001.png", "none.png", None], category=["dress", "hat", None, "dress"])
    arguments = [manifest, "--model", small_clip, "--image-root", pictures, "--labels", "shirt,dress"]
    done = command(*arguments)
    assert done.returncode == 0
    lines = done.stdout.splitlines()
    assert lines[0].startswith(f"{manifest}: 4 rows in 1 file, ")
    assert lines[1] == "columns: image_path (string, images), category (string)"
    assert "images in image_path: 3 paths, 1 row without" in lines
    assert "category: 2 labels, 2 prompts; truth in category: 2 rows, 1 without" in lines
    assert "  rows of a label: 0 shirt, 2 dress" in lines
    assert '  rows whose value is no label: 1 (1 "hat")' in lines
    assert f"  2 missing, the first: row 2: no file none.png in the image root {pictures.resolve()}" in lines
    assert "warning: 2 of 4 drawn images cannot be read; of all, about 50% will be errors" in lines
    assert 'warning: attribute "category": no row of shirt in category: not evaluated' in lines
    as_json = json.loads(command(*arguments, "--json").stdout)
    assert as_json["questions"]["category"]["balance"]["labels"] == {"shirt": 0, "dress": 2}
    assert as_json["sample"]["errors"] == {"missing": 2}
    assert as_json["schema_version"] == 1
    assert list(manifest.parent.iterdir()) == [manifest]


def test_no_weight_is_read(small_clip, pictures, write_manifest, tmp_path):
    model = shutil.copytree(small_clip, tmp_path / "model")
    weights = load_file(model / "model.safetensors")
    weights["logit_scale"].fill_(float("nan"))  # which a run refuses
    save_file(weights, model / "model.safetensors")
    assert tagger.inspect(write_manifest(["0000.png"]), model=model, image_root=pictures, labels=LABELS).model["here"]


def test_a_truth_column_without_labels_is_a_warning(small_clip, pictures, write_manifest):
    manifest = write_manifest(["0000.png"] * 2, category=["1", "2"])
    found = tagger.inspect(manifest, model=small_clip, image_root=pictures, labels=LABELS)
    assert found.warnings == ('attribute "category": truth_column category holds none of the labels, but 1 "1", 1 "2"',)


def test_a_manifest_without_rows_is_a_warning(small_clip, write_manifest):
    import pyarrow as pa

    found = tagger.inspect(write_manifest(pa.array([], pa.string())), model=small_clip)
    assert (found.sample.drawn, found.estimate.seconds >= found.estimate.start) == (0, True)
    assert found.warnings == ("no rows; the results will be empty",)
    assert "sample: no rows" in found.to_text()


def test_what_would_end_a_run_ends_it(small_clip, pictures, write_manifest, tmp_path):
    manifest = write_manifest(["0000.png"])
    nowhere = write_manifest(["x.png", "y.png", None], name="nowhere.parquet")
    with pytest.raises(
        ManifestError,
        match=r"found none among 3 drawn evenly: 3 missing \(row 0: no file x.png in the image .+\); correct the column",
    ):
        tagger.inspect(nowhere, model=small_clip, labels=LABELS)
    with pytest.raises(ManifestError, match="no image column"):
        tagger.inspect(write_manifest(["a"], name="other.parquet", image_column="photo"), model=small_clip)
    with pytest.raises(ConfigError, match="image root none: expected a folder"):
        tagger.inspect(manifest, model=small_clip, image_root="none")
    (tmp_path / "calibration.json").write_text("{}")
    attribute = {"name": "kind", "labels": LABELS, "calibration": "calibration.json"}
    with pytest.raises(ConfigError, match="calibration"):
        tagger.inspect(manifest, {"attribute": [attribute]}, model=small_clip, image_root=pictures)
    gates = {"attribute": [{"name": "kind", "labels": LABELS}], "gates": {"min_accuracy": 0.9}}
    with pytest.raises(ConfigError, match=r"gates.min_accuracy: expected an attribute with a truth_column, found none"):
        tagger.inspect(manifest, gates, model=small_clip, image_root=pictures)
    with pytest.raises(ModelError, match=r"model \./none: expected a folder"):
        tagger.inspect(manifest, model="./none", image_root=pictures)
    model = shutil.copytree(small_clip, tmp_path / "model")
    (model / "model.safetensors").write_bytes((small_clip / "model.safetensors").read_bytes()[:-100])
    with pytest.raises(ModelError, match="expected a CLIP checkpoint in transformers' format, found: model.safetensors: "):
        tagger.inspect(manifest, model=model, image_root=pictures)


@pytest.mark.parametrize(("options", "code"), [(["--image-root", "none"], 78), (["--model", "./none"], 69), ([], 65)])
def test_a_mistake_is_one_line_and_an_exit_code(options, code, small_clip, write_manifest):
    done = command(
        write_manifest(["x.png"]), "--labels", "shirt,dress", *(["--model", small_clip] if code != 69 else []), *options
    )
    assert (done.returncode, done.stdout, len(done.stderr.splitlines())) == (code, "", 1)


def test_a_hub_id_is_looked_up_here_and_nowhere_else(small_clip, pictures, write_manifest, tmp_path):
    hub = HubServer()
    arguments = [write_manifest(["0000.png"]), "--image-root", pictures, "--labels", "shirt,dress", "--model", "acme/clip"]
    told = {**hub.environment, "HF_HUB_CACHE": str(tmp_path / "hub")}
    done = command(*arguments, **told)
    assert done.returncode == 0
    assert "model: acme/clip (not on this machine: taken for ViT-B/32), cpu, " in done.stdout
    assert done.stdout.splitlines()[-1].startswith("warning: model acme/clip is not on this machine: a run fetches it first")
    repository = tmp_path / "hub" / "models--acme--clip"  # as huggingface_hub keeps it
    (repository / "refs").mkdir(parents=True)
    (repository / "refs" / "main").write_text("0" * 40)
    shutil.copytree(small_clip, repository / "snapshots" / ("0" * 40))
    done = command(*arguments, **told)
    assert done.returncode == 0
    assert "model: acme/clip, cpu, " in done.stdout
    assert "warning" not in done.stdout
    hub.stop()
    assert hub.requests == []


def test_a_model_that_a_fallback_may_stand_in_for_is_a_warning(pictures, write_manifest, tmp_path):
    rows = {"category": ["dress", "shirt"] * 4}
    manifest = write_manifest([f"{number:04d}.png" for number in range(8)], **rows)
    tagger.train_resnet18(
        manifest,
        tmp_path / "own.safetensors",
        machine=tagger.Machine(workers=0),
        image_root=pictures,
        labels=["dress", "shirt"],
        recipe=_short_recipe(),
    )
    fallback = {"checkpoint": str(tmp_path / "own.safetensors"), "on_model_error": True}
    found = tagger.inspect(manifest, {"fallback": fallback, "model": {"name": "./none"}}, image_root=pictures)
    assert found.warnings[0].startswith("model ./none: expected a folder")
    assert found.warnings[0].endswith("own.safetensors would tag alone")
    alone = tagger.inspect(manifest, model=tmp_path / "own.safetensors", image_root=pictures)
    assert (alone.model["precision"], alone.warnings) == ("fp32", ())


def _short_recipe() -> object:
    from tagger.training.resnet18 import Recipe

    return Recipe(init="random", epochs=1, image_size=32, batch_size=2, validation=0.0)


def test_durations_are_said_as_people_do():
    assert [duration(seconds) for seconds in (12.4, 720, 20_000)] == ["12 s", "12 min", "5.6 h"]


def test_the_log_says_no_more_than_a_run_does(small_clip, pictures, write_manifest, caplog):
    with caplog.at_level(logging.INFO, logger="tagger"):
        tagger.inspect(write_manifest(["0000.png"]), model=small_clip, image_root=pictures, labels=LABELS)
    assert caplog.messages == []
