"""Labelled rows -> a ResNet18 checkpoint -> tags: alone, behind CLIP, averaged with it, in its place."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from PIL import Image
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torchvision.models import resnet18

import tagger
from tagger.core.errors import ConfigError, ManifestError, ModelError, UsageError
from tagger.core.types import ImageBatch
from tagger.encoders.resnet18 import load_resnet18
from tagger.encoders.resnet18_checkpoint import ResNet18Description, read_description
from tagger.settings.options import Recipe
from tagger.training.dataset import create_pixels
from tagger.training.resnet18 import train
from tagger.training.split import split
from tests.conftest import SAMPLE
from tests.helpers.keywords import keywords
from tests.helpers.pictures import is_whole

RECIPE = Recipe(init="random", image_size=64, epochs=2, batch_size=16)
PICTURES = SAMPLE / "images"
LABELS = ["dress", "bag", "ankle boot"]
ATTRIBUTE = {"name": "category", "labels": LABELS, "truth_column": "category"}
CONFIG = {"manifest": {"image_root": str(PICTURES)}, "attribute": [ATTRIBUTE]}


@pytest.fixture(scope="module")
def labelled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Those rows of the sample catalogue that have one of three labels, and one whose image is bad."""
    table = pq.read_table(SAMPLE / "manifest.parquet")
    wanted = [value in LABELS for value in table["category"].to_pylist()]
    path = tmp_path_factory.mktemp("labelled") / "labelled.parquet"
    pq.write_table(table.filter(wanted), path)
    return path


@pytest.fixture(scope="module")
def checkpoint(labelled: Path, small_clip: Path) -> Path:
    path = labelled.parent / "resnet18.safetensors"
    recipe = replace(RECIPE, ensemble=True)
    tagger.train_resnet18(labelled, path, CONFIG, recipe=recipe, machine=tagger.Machine(workers=0), model=small_clip)
    return path


def tag(labelled: Path, tmp_path: Path, fallback: dict[str, Any] | None = None, **options: Any) -> tagger.RunSummary:
    options = {"workers": 0, "overwrite": True, "cache": tmp_path / "cache", "model": SAMPLE / "model", **options}
    config = CONFIG if fallback is None else {**CONFIG, "fallback": fallback}
    return tagger.run(labelled, config, **keywords(path=tmp_path / "tagged.parquet", **options))


def test_a_checkpoint_says_what_it_is(checkpoint: Path, labelled: Path):
    trained = read_description(str(checkpoint))
    assert (trained.attribute, list(trained.labels)) == ("category", LABELS)
    assert trained.preprocessing == RECIPE.preprocessing
    assert len(trained.metrics["epochs"]) == 2
    assert trained.metrics["training_rows"] + trained.metrics["validation_rows"] == labelled_rows(labelled)
    assert trained.ensemble is not None
    assert 0 <= trained.ensemble.weight <= 1


def labelled_rows(path: Path) -> int:
    """The sample's bad images are not trained on."""
    return sum(is_whole(PICTURES / name) for name in pq.read_table(path)["image_path"].to_pylist())


def test_it_tags_alone_as_torchvision_does(checkpoint: Path, labelled: Path, tmp_path: Path):
    summary = tag(labelled, tmp_path, model=checkpoint, precision="fp32")
    table = summary.read()
    assert set(table["category_source"].to_pylist()) <= {"resnet18", None}
    assert summary.encoded_images == labelled_rows(labelled)
    network = resnet18(num_classes=3).eval()
    network.load_state_dict(load_file(checkpoint))
    from tagger.images.decode import read_pixels

    shape = RECIPE.preprocessing
    mean, std = (torch.tensor(values)[:, None, None] for values in (shape.mean, shape.std))
    for row in table.slice(0, 8).to_pylist():
        pixels = read_pixels((PICTURES / row["image_path"]).read_bytes(), ("PNG",), {"resnet18": shape})["resnet18"]
        with torch.inference_mode():
            wanted = network(((pixels / 255 - mean) / std)[None]).softmax(1)[0]
        assert row["category_label"] == LABELS[int(wanted.argmax())]
        assert row["category_confidence"] == pytest.approx(float(wanted.max()), abs=1e-5)


def test_it_tags_with_its_own_labels_where_none_are_given(checkpoint: Path, labelled: Path, tmp_path: Path):
    config = {"manifest": {"image_root": str(PICTURES)}}
    options = {"workers": 0, "model": checkpoint, "output": tmp_path / "tagged.parquet"}
    assert tagger.run(labelled, config, **keywords(**options)).evaluation.attributes["category"].labels == tuple(LABELS)


def test_the_unsure_rows_are_decided_by_whoever_is_more_confident(checkpoint: Path, labelled: Path, tmp_path: Path):
    clip, own = tag(labelled, tmp_path).read(), tag(labelled, tmp_path, model=checkpoint).read()
    below = float(np.median([value for value in clip["category_confidence"].to_pylist() if value is not None]))
    summary = tag(labelled, tmp_path, {"checkpoint": str(checkpoint), "below": below}, cache=False)
    both = summary.read()
    shown = 0
    for first, second, found in zip(clip.to_pylist(), own.to_pylist(), both.to_pylist(), strict=True):
        if first["tag_status"] == "error":
            assert found["tag_status"] == "error"
            continue
        unsure = first["category_confidence"] < below
        shown += unsure
        wins = second if unsure and second["category_confidence"] > first["category_confidence"] else first
        assert [found[f"category_{part}"] for part in ("label", "confidence", "source")] == [
            wins[f"category_{part}"] for part in ("label", "confidence", "source")
        ]
    assert 0 < shown == summary.fallback_images < summary.encoded_images
    assert set(summary.evaluation.attributes["category"].by_source) == {"clip", "resnet18"}


@pytest.mark.parametrize("fallback", [{"below": 0.9}, {"mode": "ensemble"}])
def test_nights_with_and_without_the_cache_write_the_same_bytes(
    checkpoint: Path, labelled: Path, tmp_path: Path, fallback: dict[str, Any]
):
    settings = {"checkpoint": str(checkpoint), **fallback}
    tag(labelled, tmp_path)  # CLIP's embeddings are known, the fallback's are not
    outputs = []
    for options in ({}, {}, {"verify_content": True}, {"cache": False}, {"workers": 2, "batch_size": 5, "cache": False}):
        summary = tag(labelled, tmp_path, settings, **options)
        outputs.append((summary.output.read_bytes(), summary.encoded_images, summary.fallback_images))
    assert len({output for output, _, _ in outputs}) == 1
    (_, first, shown), (_, again, shown_again), (_, verified, shown_verified), *from_nothing = outputs
    assert (first, again, shown_again, verified, shown_verified) == (0, 0, 0, 0, 0)
    assert [(encoded > 0, seen) for _, encoded, seen in from_nothing] == [(True, shown), (True, shown)]


@pytest.mark.parametrize("rule", [{"below": 1.0}, {"mode": "ensemble"}, None], ids=["unsure", "averaged", "alone"])
def test_a_picture_with_nothing_to_see_is_reviewed_by_whichever_cache_it_is_known(
    checkpoint: Path, tmp_path: Path, rule: dict[str, Any] | None
):
    Image.new("RGB", (3, 5)).save(tmp_path / "spacer.png")
    manifest = tmp_path / "manifest.parquet"
    pq.write_table(pa.table({"image": ["0000.png", "spacer.png", " spacer.png"]}), manifest)
    (tmp_path / "0000.png").write_bytes((PICTURES / "0000.png").read_bytes())
    labels = {"manifest": {}, "attribute": [{"name": "category", "labels": LABELS}]}
    fallback = {"fallback": {"checkpoint": str(checkpoint), **rule}} if rule else {}
    model = SAMPLE / "model" if rule else checkpoint
    expected = [None, "quality: 3 x 5 pixels", "quality: 3 x 5 pixels"]
    for night in range(2):
        output = tagger.Output(report=False, path=tmp_path / f"{night}.parquet")
        found = tagger.run(manifest, {**labels, **fallback}, output=output, machine=tagger.Machine(workers=0), model=model)
        assert found.read()["tag_reason"].to_pylist() == expected
    assert (tmp_path / "0.parquet").read_bytes() == (tmp_path / "1.parquet").read_bytes()
    # What one run's fallback knows is what another's only model finds.
    alone = tagger.run(manifest, labels, output=tagger.Output(report=False, path=tmp_path / "alone.parquet"), model=checkpoint)
    assert alone.read()["tag_reason"].to_pylist() == expected


def test_a_file_that_was_touched_is_decoded_for_the_fallback_alone(checkpoint: Path, labelled: Path, tmp_path: Path):
    """CLIP's embedding is known by the bytes, and not the file: the decoding process finds that out."""
    tag(labelled, tmp_path)
    wanted = tag(labelled, tmp_path, {"checkpoint": str(checkpoint), "mode": "ensemble"}, cache=False).output.read_bytes()
    summary = tag(labelled, tmp_path, {"checkpoint": str(checkpoint), "mode": "ensemble"}, verify_content=True)
    assert summary.output.read_bytes() == wanted
    assert (summary.encoded_images, summary.fallback_images) == (0, labelled_rows(labelled))


@pytest.mark.parametrize("workers", [0, 2])
def test_what_only_the_fallback_lacks_is_decoded_by_the_same_processes(
    checkpoint: Path, labelled: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, workers: int
):
    """One pool for all shards, and one more for what turns out to be needed after the last batch was sent."""
    from tagger.images import resilient_loader

    table = pq.read_table(labelled)
    padding = pa.array(["x" * (1 << 19)] * len(table))  # shards of 64 rows
    pq.write_table(table.append_column("padding", padding), manifest := tmp_path / "wide.parquet", use_dictionary=False)
    tag(manifest, tmp_path, precision="fp32")  # by name, so that no pool is started to try one
    fallback, pools = {"checkpoint": str(checkpoint), "mode": "ensemble"}, []
    wanted = tag(manifest, tmp_path, fallback, precision="fp32", cache=False).output.read_bytes()

    class CountedLoader(resilient_loader.ImageLoader):
        def __iter__(self) -> Iterator[ImageBatch]:
            pools.append(self)
            return super().__iter__()

    monkeypatch.setattr(resilient_loader, "ImageLoader", CountedLoader)
    options = {"precision": "fp32", "verify_content": True, "batch_size": 4, "workers": workers}
    summary = tag(manifest, tmp_path, fallback, **options)
    assert summary.output.read_bytes() == wanted
    assert (summary.encoded_images, summary.fallback_images) == (0, labelled_rows(labelled))
    assert len(pools) <= 2


def test_probabilities_are_averaged_with_the_weight_of_the_checkpoint(checkpoint: Path, labelled: Path, tmp_path: Path):
    summary = tag(labelled, tmp_path, {"checkpoint": str(checkpoint), "mode": "ensemble"})
    assert set(summary.read()["category_source"].to_pylist()) <= {"hybrid", None}
    for row in summary.read().to_pylist():
        if row["tag_status"] != "error":
            assert sum(item["confidence"] for item in row["category_top"]) == pytest.approx(1, abs=1e-5)


def test_without_clip_the_night_runs_on_the_checkpoint_alone(checkpoint: Path, labelled: Path, tmp_path: Path, caplog):
    fallback = {"checkpoint": str(checkpoint), "on_model_error": True}
    summary = tag(labelled, tmp_path, fallback, model=tmp_path / "removed")
    assert {source for source in summary.read()["category_source"].to_pylist() if source} == {"resnet18"}
    assert any(message.startswith("WITHOUT CLIP: all rows are decided by ") for message in caplog.messages)
    assert summary.model["instead_of"] == str(tmp_path / "removed")
    with pytest.raises(ModelError):
        tag(labelled, tmp_path, {"checkpoint": str(checkpoint)}, model=tmp_path / "removed")


def test_other_labels_are_refused_and_both_are_listed(checkpoint: Path, labelled: Path, tmp_path: Path):
    for options in ({"model": checkpoint}, {"fallback": {"checkpoint": str(checkpoint)}}):
        with pytest.raises(
            ConfigError, match='expected the labels of attribute "category", hat, bag, found one trained on dress'
        ):
            tag(labelled, tmp_path, labels=["hat", "bag"], **options)


def test_a_checkpoint_with_other_prompts_has_no_weight_for_them(checkpoint: Path, labelled: Path, tmp_path: Path):
    changed = {**CONFIG, "fallback": {"checkpoint": str(checkpoint), "mode": "ensemble"}}
    changed["attribute"] = [{**ATTRIBUTE, "templates": ["The {label}."]}]
    with pytest.raises(ConfigError, match="found a weight for another CLIP or other prompts"):
        tagger.run(
            labelled,
            changed,
            output=tagger.Output(report=False, path=tmp_path / "t.parquet"),
            machine=tagger.Machine(workers=0),
            model=SAMPLE / "model",
        )


def test_damaged_checkpoints_are_refused(checkpoint: Path, labelled: Path, tmp_path: Path):
    path = tmp_path / "bad.safetensors"
    with safe_open(checkpoint, "pt") as file:
        metadata = file.metadata()
    described = json.loads(metadata["tagger"])
    weights = load_file(checkpoint)
    damaged = [
        ("found no such file", None),
        ("expected a whole safetensors file", lambda: path.write_bytes(checkpoint.read_bytes()[:1000])),
        ("found other weights", lambda: save_file(weights, path)),
        ("found fc.bias", lambda: save_file({**weights, "fc.bias": torch.zeros(7)}, path, metadata)),
        ("found no fc.bias", lambda: save_file({k: w for k, w in weights.items() if k != "fc.bias"}, path, metadata)),
        ("found NaN or infinity", lambda: save_file({**weights, "fc.bias": torch.full((3,), torch.nan)}, path, metadata)),
        (
            "found labels: ",
            lambda: save_file(weights, path, {"tagger": json.dumps({**described, "labels": 3})}),
        ),
    ]
    for message, make in damaged:
        if make is not None:
            make()
        with pytest.raises(ModelError, match=message):
            tag(labelled, tmp_path, model=path)


def test_a_training_that_was_interrupted_ends_with_the_same_weights(tmp_path: Path):
    generator = torch.Generator().manual_seed(0)
    pixels = torch.randint(0, 256, (20, 3, 32, 32), dtype=torch.uint8, generator=generator)
    truth = np.arange(20) % 2
    recipe = Recipe(init="random", image_size=32, epochs=3, batch_size=8)
    device = torch.device("cpu")
    whole, metrics = train(pixels, truth, 2, recipe, device)
    state = tmp_path / "state"
    seen = 0

    def stop_in_the_second_epoch(count: int, text: str) -> None:
        nonlocal seen
        seen += count
        if seen > 20:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train(pixels, truth, 2, recipe, device, state=state, advance=stop_in_the_second_epoch)
    continued, metrics_continued = train(pixels, truth, 2, recipe, device, state=state)
    assert metrics_continued == metrics
    assert all(torch.equal(continued[key], whole[key]) for key in whole)
    other = Recipe(init="random", image_size=32, epochs=3, batch_size=8, seed=1)
    state.write_bytes(b"damaged")
    assert train(pixels, truth, 2, other, device, state=state)[1] != metrics


@pytest.mark.parametrize("epochs", [1, 5])
def test_a_loss_or_weights_that_are_no_numbers_end_the_training(epochs: int):
    """The loss of the first batch is still one, whatever it then makes of the weights."""
    pixels = torch.randint(0, 256, (8, 3, 32, 32), dtype=torch.uint8, generator=torch.Generator().manual_seed(1))
    recipe = Recipe(init="random", image_size=32, learning_rate=1e30, epochs=epochs)
    with pytest.raises(ConfigError, match="--learning-rate 1e\\+30: expected a loss and weights that are numbers, found others"):
        train(pixels, np.arange(8) % 2, 2, recipe, torch.device("cpu"))


@pytest.mark.parametrize("rows", [2, 3, 5])
def test_no_row_is_left_alone_with_batch_normalisation(rows: int):
    pixels = torch.randint(0, 256, (rows, 3, 32, 32), dtype=torch.uint8, generator=torch.Generator().manual_seed(1))
    recipe = Recipe(init="random", image_size=32, epochs=1, batch_size=2, validation=0)
    _, metrics = train(pixels, np.arange(rows), rows, recipe, torch.device("cpu"))
    assert metrics["training_rows"] == rows


def test_batch_normalisation_has_the_statistics_of_the_last_weights():
    pixels = torch.randint(0, 256, (48, 3, 32, 32), dtype=torch.uint8, generator=torch.Generator().manual_seed(1))
    recipe = Recipe(init="random", image_size=32, epochs=2, batch_size=16, validation=0)
    weights, _ = train(pixels, np.arange(48) % 2, 2, recipe, torch.device("cpu"))
    mean, std = (torch.tensor(values)[:, None, None] for values in (recipe.preprocessing.mean, recipe.preprocessing.std))
    seen = torch.nn.functional.conv2d((pixels / 255 - mean) / std, weights["conv1.weight"], stride=2, padding=3)
    torch.testing.assert_close(weights["bn1.running_mean"], seen.mean((0, 2, 3)), rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(weights["bn1.running_var"], seen.var((0, 2, 3)), rtol=2e-2, atol=0)  # the mean of three batches'


def test_a_disk_without_room_for_the_pixels_is_an_error_and_not_the_end_of_the_process(tmp_path: Path):
    with pytest.raises(OSError, match="No space left on device|File too large"):
        create_pixels(tmp_path / "pixels", 1 << 40, (224, 224))


def test_the_split_keeps_every_label_and_shares_no_row():
    truth = np.array([0] * 10 + [1] * 3 + [2])
    rows, held = split(truth, 0.2, seed=3)
    assert sorted([*rows, *held]) == list(range(14))
    assert np.bincount(truth[held], minlength=3).tolist() == [2, 1, 0]
    assert len(split(truth, 0.0, seed=3)[1]) == 0
    assert [len(part) for part in split(truth[:0], 0.2, seed=3)] == [0, 0]


def test_weights_of_imagenets_format_begin_the_training(tmp_path: Path):
    torch.manual_seed(0)
    weights = resnet18(num_classes=1000).state_dict()
    for name, write in (("w.safetensors", save_file), ("w.pth", torch.save)):
        write(weights, tmp_path / name)
        from tagger.training.resnet18 import initial_network

        network = initial_network(str(tmp_path / name), 3, seed=0)
        assert torch.equal(network.state_dict()["layer1.0.conv1.weight"], weights["layer1.0.conv1.weight"])
        assert network.fc.weight.shape == (3, 512)
    save_file({"a": torch.zeros(1)}, tmp_path / "other.safetensors")
    for name in ("other.safetensors", "none.pth"):
        with pytest.raises(ModelError, match="expected the weights of torchvision's ResNet18, found.* --init random"):
            initial_network(str(tmp_path / name), 3, seed=0)


def test_what_cannot_be_learned_is_said(labelled: Path, tmp_path: Path):
    def learn(output: str = "r.safetensors", **options: Any) -> ResNet18Description:
        return tagger.train_resnet18(
            labelled, tmp_path / output, CONFIG, **{"recipe": RECIPE, "machine": tagger.Machine(workers=0), **options}
        )

    with pytest.raises(ManifestError, match="expected readable rows of each label in column category, found none of hat"):
        learn(labels=["dress", "hat"])
    with pytest.raises(UsageError, match="expected a name that ends with .safetensors"):
        learn("r.pt")
    with pytest.raises(UsageError, match="--attribute size: expected one of category"):
        learn(attribute="size")
    with pytest.raises(UsageError, match="--ensemble: expected a CLIP to be averaged with, found other.safetensors"):
        learn(recipe=replace(RECIPE, ensemble=True), model="other.safetensors")
    (tmp_path / "there.safetensors").touch()
    with pytest.raises(UsageError, match="expected no file, found one"):
        learn("there.safetensors")
    assert not (tmp_path / "r.safetensors").exists()


def test_an_image_is_decoded_once_for_both_encoders(small_clip: Path):
    """Encoders of one size and filter get the very same pixels; others get theirs from the same decoded image."""
    from dataclasses import replace

    from tagger.images.decode import read_pixels
    from tagger.images.reading import decoded_for

    first = RECIPE.preprocessing
    data = (SAMPLE / "images" / "0000.png").read_bytes()
    wanted = {"first": first, "twin": replace(first, mean=(0.5,) * 3), "small": replace(first, resize=32, crop=(32, 32))}
    pixels = read_pixels(data, ("PNG",), wanted)
    assert pixels["first"] is pixels["twin"]
    assert pixels["small"].shape == (3, 32, 32)
    assert decoded_for({"first": first, "other": replace(first, resize=96)}) == 64
    assert decoded_for({"first": first, "other": replace(first, resize=224)}) == 150


def test_a_checkpoint_loads_where_it_is_asked_to(checkpoint: Path):
    loaded = load_resnet18(str(checkpoint), read_description(str(checkpoint)), torch.device("cpu"))
    assert loaded.encoder.encode(torch.zeros((2, 3, 64, 64), dtype=torch.uint8)).shape == (2, 512)


def test_the_command_says_in_lines_of_its_own_what_was_left_out(labelled: Path, tmp_path: Path):
    config = tmp_path / "tagger.toml"
    config.write_text(
        f'[manifest]\nimage_root = "{PICTURES}"\n[[attribute]]\nname = "category"\nlabels = ["dress", "bag"]\n'
        'truth_column = "category"\n'
    )
    rows = pq.read_table(labelled, columns=["image_path", "category"])
    lost = pa.table({"image_path": ["lost.png", "gone.png", "../bag.png"], "category": ["dress", "bag", "bag"]}, rows.schema)
    manifest = tmp_path / "manifest.parquet"
    pq.write_table(pa.concat_tables([rows, lost]), manifest)
    command = [sys.executable, "-m", "tagger", "train", "resnet18", str(manifest)]
    command += ["--output", str(tmp_path / "r.safetensors"), "--config", str(config), "--workers", "0"]
    command += ["--init", "random", "--image-size", "32", "--epochs", "1"]
    done = subprocess.run(command, check=False, capture_output=True, text=True)
    assert done.returncode == 0
    assert any(line.endswith("rows have no truth value among the labels and are left out") for line in done.stderr.splitlines())
    [line] = [line for line in done.stderr.splitlines() if "cannot be read" in line]
    assert line == (
        f"tagger: images that cannot be read are left out: 2 missing (no file lost.png in the image root {PICTURES.resolve()}); "
        "1 forbidden-path (../bag.png leads out of the image root, and into no folder of [images] allow_roots)"
    )
    assert [line for line in done.stderr.splitlines() if not line.startswith("tagger: ")] == []
    assert done.stdout.splitlines()[-1] == str(tmp_path / "r.safetensors")
    again = subprocess.run(command, check=False, capture_output=True, text=True)
    assert (again.returncode, again.stderr.count("\n")) == (2, 1)
