"""`tagger review`: which rows of a result are asked about, in each format, and which pictures go with them."""

from __future__ import annotations

import io
import json
import logging
import shutil
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner
from PIL import Image

import tagger
from tagger.catalog.review_table import image_hash
from tagger.cli.main import cli
from tagger.core.errors import ManifestError, UsageError
from tagger.core.types import ImageRef
from tests.helpers.results import write_result

LABELS = {"kind": ["dress", "hat", "shoes"]}
ROWS = 60


@pytest.fixture
def photos(tmp_path: Path, pictures: Path) -> list[str]:
    """Ten pictures, of which 7.png has the bytes of 3.png, 8.png its pixels only, and 9.png is none."""
    for number in range(7):
        shutil.copy(pictures / f"{number:04d}.png", tmp_path / f"{number}.png")
    shutil.copy(tmp_path / "3.png", tmp_path / "7.png")
    with Image.open(tmp_path / "3.png") as image:
        image.save(tmp_path / "8.png", compress_level=0)
    (tmp_path / "9.png").write_text("<html>")
    assert (tmp_path / "8.png").read_bytes() != (tmp_path / "3.png").read_bytes()
    return [f"{number}.png" for number in range(10)]


@pytest.fixture
def result(tmp_path: Path, photos: list[str]) -> Path:
    return write_result(tmp_path / "night.parquet", ROWS, LABELS, photos, truth=False, image_root=tmp_path)


def table_of(places: list[str]) -> list[dict[str, object]]:
    return pq.read_table(places[0]).to_pylist()


def test_each_picture_is_asked_about_once_and_what_cannot_be_read_is_left_out(result: Path, caplog: pytest.LogCaptureFixture):
    with caplog.at_level(logging.INFO, logger="tagger"):
        [page] = tagger.review(result, workers=0)
    assert page == str(result.with_name("night.run") / "review.html")
    html = Path(page).read_text()
    assert html.count("data:image/webp") == 7
    assert "1 images that were tagged cannot be read now" in caplog.text
    assert f"{page}: 7 rows, 0." in caplog.text
    # For a table no picture is opened: there, the same reference is the same picture.
    found = table_of(tagger.review(result, format="parquet"))
    assert sorted(row["image"] for row in found) == [f"{number}.png" for number in range(10)]


def test_no_byte_of_an_image_goes_on(tmp_path: Path):
    secret = b"taken at home"
    image, exif, buffer = Image.effect_noise((64, 64), 50).convert("RGB"), Image.Exif(), io.BytesIO()
    exif[0x010E] = secret.decode()
    image.save(buffer, "JPEG", exif=exif)
    assert secret in buffer.getvalue()
    result = write_result(tmp_path / "night.parquet", 4, LABELS, [buffer.getvalue()], truth=False)
    for kind in ("html", "label-studio"):
        for place in tagger.review(result, format=kind, workers=0):
            assert secret not in Path(place).read_bytes()
    assert len(table_of(tagger.review(result, format="parquet"))) == 1


def test_the_budget_is_kept_and_its_rows_are_those_that_come_first(result: Path):
    every = [row["id"] for row in table_of(tagger.review(result, format="parquet"))]
    for budget in (1, 4):
        assert [row["id"] for row in table_of(tagger.review(result, format="parquet", budget=budget))] == every[:budget]
    tasks = json.loads(Path(tagger.review(result, format="label-studio", budget=3, workers=0)[0]).read_text())
    assert [task["data"]["item_id"] for task in tasks] == every[:3]


def test_a_row_says_what_the_result_says_of_it(result: Path):
    rows = {row["id"]: row for row in pq.read_table(result).to_pylist()}
    for row in table_of(tagger.review(result, format="parquet")):
        said = rows[row["id"]]
        (first, second), image = said["kind_top"], said["image"]
        assert (row["label"], row["confidence"]) == (first["label"], first["confidence"])
        assert (row["second"], row["second_confidence"]) == (second["label"], second["confidence"])
        assert (row["image"], row["image_hash"]) == (image, image_hash(ImageRef(0, path=image)))
        margin = first["confidence"] - second["confidence"]
        assert row["reason"] == (said["tag_reason"] or f"close call: {margin:.3f} between the best two")
        assert (row["attribute"], row["id_column"], row["correction"]) == ("kind", "id", None)


def test_rows_whose_labels_failed_a_gate_say_so(tmp_path: Path, photos: list[str]):
    result = write_result(tmp_path / "night.parquet", ROWS, LABELS, photos, image_root=tmp_path)
    summary = tmp_path / "night.run" / "summary.json"
    content = json.loads(summary.read_text())
    for row in content["evaluation"]["kind"]["per_class"].values():
        row["f1"] = 0.9
    content["evaluation"]["kind"]["per_class"]["hat"]["f1"] = 0.25
    gate = {
        "gate": "min_macro_f1",
        "attribute": "kind",
        "wanted": 0.8,
        "found": 0.7,
        "rows": 9,
        "interval": None,
        "passed": False,
    }
    summary.write_text(json.dumps({**content, "gates": [{**gate, "note": None}]}))
    found = table_of(tagger.review(result, format="parquet"))
    doubted = [row["reason"] == "gate failed: F1 of hat is 0.250" for row in found if row["label"] == "hat"]
    assert any(doubted)
    assert not any("gate" in row["reason"] for row in found if row["label"] != "hat")


def test_without_a_summary_the_result_alone_does(result: Path):
    shutil.rmtree(result.with_name("night.run"))
    found = table_of(tagger.review(result, format="parquet"))
    assert (len(found), found[0]["id"], found[0]["id_column"]) == (10, None, None)


def test_what_cannot_be_meant_is_refused(result: Path, tmp_path: Path):
    both = write_result(tmp_path / "both.parquet", 8, {**LABELS, "sort": ["a", "b"]}, ["1.png"], truth=False, image_root=tmp_path)
    with pytest.raises(UsageError, match="--attribute: expected one of kind, sort, found none; name the one to review"):
        tagger.review(both)
    with pytest.raises(UsageError, match="--attribute colour: expected one of kind; correct it"):
        tagger.review(result, attribute="colour")
    with pytest.raises(UsageError, match="--budget: expected a number of rows from 1 on, found 0"):
        tagger.review(result, budget=0)
    pq.write_table(pa.table({"x": [1]}), tmp_path / "other.parquet")
    with pytest.raises(ManifestError, match="expected results of tagger"):
        tagger.review(tmp_path / "other.parquet")


@pytest.mark.parametrize("status", ["error", "tagged"])
def test_where_nothing_is_to_be_asked_the_page_says_so(tmp_path: Path, status: str, caplog: pytest.LogCaptureFixture):
    result = write_result(
        tmp_path / "night.parquet", 4 if status == "error" else 0, LABELS, ["1.png"], error_share=1.0, image_root=tmp_path
    )
    [page] = tagger.review(result, workers=0)
    assert "no row has a tag to ask about" in caplog.text
    assert 'max="0"' in Path(page).read_text()


@pytest.mark.parametrize("arguments", [["RESULT"], ["--budget", "2", "RESULT"], ["page", "RESULT", "--budget", "2"]])
def test_the_commands_name_page_may_be_left_out(result: Path, arguments: list[str]):
    given = [str(result) if word == "RESULT" else word for word in arguments]
    done = CliRunner().invoke(cli, ["review", *given, "--format", "csv"])
    assert done.exit_code == 0, done.output
    assert done.stdout == f"{result.with_name('night.run') / 'review.csv'}\n"
    assert len(Path(done.stdout.strip()).read_text().splitlines()) == (11 if len(arguments) == 1 else 3)
