"""`tagger compare`: draws, systems, figures and pictures."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageEnhance

import tagger
from tagger.core.errors import ManifestError, UsageError
from tagger.evaluation.comparison import Comparison
from tagger.images.decode import read_pixels
from tagger.settings.options import COMPARED, HEAD, HEAD_SYSTEMS, SYSTEMS, ZERO_SHOT, Recipe
from tagger.training.few_shot import NEAR, WHOLE, Pool, draw, perceptual_hashes
from tests.conftest import SAMPLE
from tests.helpers.keywords import study_keywords
from tests.helpers.pictures import is_whole
from tests.training.test_resnet18 import CONFIG, LABELS, labelled

__all__ = ["labelled"]  # a fixture

RECIPE = Recipe(init="random", image_size=32, epochs=1)
OPTIONS: dict[str, Any] = {"recipe": RECIPE, "model": SAMPLE / "model", "workers": 0}


@pytest.fixture(scope="module")
def compared(labelled: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Comparison]:
    folder = tmp_path_factory.mktemp("compared") / "comparison"
    return folder, tagger.compare(labelled, folder, CONFIG, **study_keywords(shots=(4, 2), test=3, seeds=3, **OPTIONS))


def test_the_table_is_what_the_predictions_say(compared: tuple[Path, Comparison]):
    folder, comparison = compared
    assert Comparison.model_validate_json((folder / "comparison.json").read_text()) == comparison
    table = pq.read_table(folder / "predictions.parquet").to_pandas()
    assert len(table) == 2 * 3 * len(COMPARED) * 3 * len(LABELS)  # shots, seeds, systems, rows of each label
    for one in comparison.scores:
        rows = table[(table.system == one.system) & (table.shots == one.shots)]
        by_draw = (rows.truth == rows.label).groupby(rows.seed).mean()
        assert one.accuracy.of_draws == pytest.approx(by_draw.tolist())
        assert one.accuracy.standard_deviation == pytest.approx(by_draw.std())
        assert sum(map(sum, one.confusion_matrix)) == len(rows)
        assert sum(row[number] for number, row in enumerate(one.confusion_matrix)) == (rows.truth == rows.label).sum()
        assert one.seconds > 0
    named = {(one.system, one.shots): one for one in comparison.scores}
    # What learns nothing does not depend on the shots, and its difference to itself is none.
    assert named["zero-shot", 2].accuracy == named["zero-shot", 4].accuracy
    assert named["zero-shot", 4].difference is None
    gains = np.subtract(named["resnet18", 4].accuracy.of_draws, named["zero-shot", 4].accuracy.of_draws)
    assert named["resnet18", 4].difference.of_draws == pytest.approx(gains.tolist())


def test_zero_shot_answers_as_a_run_does(compared: tuple[Path, Comparison], labelled: Path, tmp_path: Path):
    table = pq.read_table(compared[0] / "predictions.parquet").to_pylist()
    summary = tagger.run(
        labelled,
        CONFIG,
        output=tagger.Output(report=False, path=tmp_path / "tagged.parquet"),
        machine=tagger.Machine(workers=0),
        model=SAMPLE / "model",
    )
    tagged = summary.read().to_pylist()
    for row in (row for row in table if row["system"] == "zero-shot"):
        assert row["truth"] == tagged[row["row"]]["category"]
        assert row["label"] == tagged[row["row"]]["category_label"]
        assert row["confidence"] == pytest.approx(tagged[row["row"]]["category_confidence"], abs=1e-5)


@pytest.mark.parametrize("name", ["confusion.png", "samples.png", "curves.png"])
def test_pictures_can_be_looked_at(compared: tuple[Path, Comparison], name: str):
    with Image.open(compared[0] / name) as picture:
        pixels = np.asarray(picture.convert("RGB"))
    assert min(pixels.shape[:2]) >= 200
    assert len(np.unique(pixels.reshape(-1, 3), axis=0)) > 50


def test_it_says_the_same_again(compared: tuple[Path, Comparison], labelled: Path, tmp_path: Path):
    options = {**OPTIONS, "systems": ("resnet18",)}
    again = tagger.compare(labelled, tmp_path / "again", CONFIG, **study_keywords(shots=(4,), test=3, seeds=3, **options))
    [wanted] = [one for one in compared[1].scores if (one.system, one.shots) == ("resnet18", 4)]
    assert again.scores[0].accuracy == wanted.accuracy
    assert again.model == {}


def test_one_draw_with_one_shot_has_no_interval(labelled: Path, tmp_path: Path):
    found = tagger.compare(labelled, tmp_path / "one", CONFIG, **study_keywords(shots=(1,), test=1, seeds=1, **OPTIONS))
    by_system = {one.system: one for one in found.scores}
    assert by_system["zero-shot"].accuracy.low is None
    # Without a row to choose by, nothing speaks for the ResNet18.
    assert by_system["hybrid"].accuracy == by_system["zero-shot"].accuracy


def test_tests_may_come_from_a_manifest_of_their_own(labelled: Path, tmp_path: Path):
    table = pq.read_table(labelled)
    pq.write_table(table.slice(0, 60), tmp_path / "learn.parquet")
    pq.write_table(table.slice(60), tmp_path / "test.parquet")
    options = {**OPTIONS, "test_manifest": tmp_path / "test.parquet", "systems": ("zero-shot",)}
    found = tagger.compare(
        tmp_path / "learn.parquet", tmp_path / "all", CONFIG, **study_keywords(shots=(2,), test=None, seeds=2, **options)
    )
    tested = pq.read_table(tmp_path / "all" / "predictions.parquet").to_pandas()
    wanted = [row + 60 for row in range(len(table) - 60)]
    found_rows = sorted(tested[tested.seed == 0].row + 60)
    assert found_rows == [row for row in wanted if is_whole(SAMPLE / "images" / table["image_path"][row].as_py())]
    assert list(found.manifests) == [str(tmp_path / "learn.parquet"), str(tmp_path / "test.parquet")]


def test_all_systems_can_be_compared_at_once(labelled: Path, tmp_path: Path):
    options = {**OPTIONS, "systems": SYSTEMS}
    found = tagger.compare(labelled, tmp_path / "all", CONFIG, **study_keywords(shots=(4,), test=3, seeds=1, **options))
    assert tuple(one.system for one in found.scores) == SYSTEMS
    methods = {one.system: one.methods for one in found.scores if one.methods}
    assert {system: methods[system] for system in HEAD_SYSTEMS if system != HEAD} == {
        system: {system: 1} for system in HEAD_SYSTEMS if system != HEAD
    }
    assert methods.keys() == set(HEAD_SYSTEMS)
    with Image.open(tmp_path / "all" / "confusion.png") as picture:
        assert picture.width > picture.height  # four beside each other, in three lines


def test_heads_need_no_weights_of_a_resnet18(labelled: Path, tmp_path: Path):
    options = {**OPTIONS, "recipe": Recipe(init="missing.safetensors"), "systems": ("zero-shot", "head")}
    found = tagger.compare(labelled, tmp_path / "heads", CONFIG, **study_keywords(shots=(1,), test=3, seeds=2, **options))
    zero_shot, head = found.scores
    assert head.accuracy == zero_shot.accuracy
    assert head.methods == {ZERO_SHOT: 2}
    assert found.notes == ("With 1 shot the head was zero-shot in 2 of 2 draws.",)


@pytest.mark.parametrize(
    ("options", "error", "words"),
    [
        ({"systems": ("clip",)}, UsageError, "--systems: expected some of zero-shot, resnet18, hybrid, gda, "),
        ({"systems": ()}, UsageError, "--systems: expected some of"),
        ({"systems": ("hybrid", "hybrid")}, UsageError, "each once"),
        ({"shots": (0,)}, UsageError, "--shots: expected numbers from 1 on"),
        ({"test": None}, UsageError, "name a --test-manifest"),
        ({"test": 500}, ManifestError, "expected 500 readable rows of each label to test with, found "),
        ({"shots": (500,)}, ManifestError, "expected 500 readable rows of each label to learn from"),
        ({"labels": ["dress", "bag", "hat"]}, ManifestError, "found none of hat"),
        ({"attribute": "colour"}, UsageError, "--attribute colour: expected one of category"),
        ({"model": "other.safetensors"}, UsageError, "--model: expected a CLIP"),
        ({"model": "other.safetensors", "systems": ("gda", "resnet18")}, UsageError, "--model: expected a CLIP"),
    ],
)
def test_mistakes(labelled: Path, tmp_path: Path, options: dict[str, Any], error: type[Exception], words: str):
    with pytest.raises(error) as raised:
        tagger.compare(labelled, tmp_path / "comparison", CONFIG, **study_keywords(**{**OPTIONS, "seeds": 2, **options}))
    assert words in str(raised.value)
    assert not (tmp_path / "comparison").exists()


def test_a_comparison_is_not_overwritten_by_accident(compared: tuple[Path, Comparison], labelled: Path):
    with pytest.raises(UsageError, match="--overwrite"):
        tagger.compare(labelled, compared[0], CONFIG, **study_keywords(**OPTIONS))


# Draws


def picture_hashes(pictures: list[Image.Image]) -> np.ndarray:
    pixels = []
    for picture in pictures:
        buffer = io.BytesIO()
        picture.save(buffer, "PNG")
        pixels.append(read_pixels(buffer.getvalue(), ("PNG",), {"whole": WHOLE})["whole"])
    return perceptual_hashes(torch.stack(pixels))


def test_nearly_the_same_photos_are_known(shared_data: Path):
    photos = [Image.open(path).convert("RGB") for path in sorted((shared_data / "clothing/adapt").glob("*/*.jpg"))[::40]]
    hashes = picture_hashes(photos)

    def saved(photo: Image.Image) -> Image.Image:
        buffer = io.BytesIO()
        photo.save(buffer, "JPEG", quality=30)
        return Image.open(buffer)

    def halved(photo: Image.Image) -> Image.Image:
        return photo.resize((photo.width // 2, photo.height // 2))

    for change in (saved, halved, lambda photo: ImageEnhance.Brightness(photo).enhance(1.2)):
        assert (picture_hashes([change(photo) for photo in photos]) != hashes).sum(1).max() <= NEAR
    distances = (hashes[:, None] != hashes[None]).sum(2)[np.triu_indices(len(photos), 1)]
    assert (distances > NEAR).all()


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.tuples(st.integers(0, 2), st.integers(0, 40)), min_size=12, max_size=60),
    st.integers(1, 3),
    st.integers(1, 3),
    st.integers(0, 9),
)
def test_both_sides_of_a_draw_are_apart(rows: list[tuple[int, int]], shots: int, tests: int, seed: int):
    """Pictures of one number are the same, those of other numbers far away."""
    truth = np.asarray([label for label, _ in rows])
    far = np.random.default_rng(0).integers(0, 2, (41, 63)).astype(np.bool_)
    pool = Pool("labelled.parquet", truth, far[[number for _, number in rows]])
    try:
        drawn = draw(pool, pool, ["a", "b", "c"], shots, tests, seed)
    except ManifestError:  # too few of some label, of which test_mistakes has the words
        return
    assert drawn.shots.shape == (3, shots)
    assert (truth[drawn.shots] == np.arange(3)[:, None]).all()
    assert np.bincount(truth[drawn.tests], minlength=3).tolist() == [tests] * 3
    pictures = [rows[row][1] for row in drawn.shots.ravel()]
    assert len(set(pictures)) == len(pictures)
    assert not set(pictures) & {rows[row][1] for row in drawn.tests}
    fewer = draw(pool, pool, ["a", "b", "c"], 1, tests, seed)
    assert (fewer.tests == drawn.tests).all()


def test_fewer_shots_are_the_first_of_more():
    truth = np.repeat([0, 1], 30)
    hashes = np.random.default_rng(1).integers(0, 2, (60, 63)).astype(np.bool_)
    pool = Pool("labelled.parquet", truth, hashes)
    for seed in range(5):
        more, again = (draw(pool, pool, ["a", "b"], 8, 4, seed) for _ in range(2))
        assert (more.shots == again.shots).all()
        assert (more.tests == again.tests).all()
