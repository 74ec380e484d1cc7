"""How many rows may fail, which are tried again, and what is allowed to be an image."""

from __future__ import annotations

import shutil
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from PIL import Image

import tagger
from tagger.core.errors import ConfigError, GateError, ManifestError, UsageError
from tagger.evaluation.gates import error_limit
from tests.helpers.keywords import keywords

KIND = {"attribute": [{"name": "kind", "labels": ["shirt", "dress", "shoes"], "truth_column": "kind"}]}
NAMES = [f"{number:04d}.png" for number in range(8)]


@pytest.fixture
def shop(tmp_path: Path, pictures: Path) -> Path:
    """Eight images, of which numbers 2 and 5 are not there yet."""
    folder = tmp_path / "shop"
    folder.mkdir()
    for number in (0, 1, 3, 4, 6, 7):
        shutil.copy(pictures / NAMES[number], folder)
    return folder


@pytest.fixture
def manifest(write_manifest) -> Path:
    return write_manifest(NAMES, kind=["shirt", None] * 4, price=[1.5] * 8)


def test_error_rows_are_tried_again_and_the_others_are_left_as_they_are(manifest, small_clip, shop, pictures, tmp_path):
    whole = tagger.run(
        manifest,
        KIND,
        output=tagger.Output(report=False, path=tmp_path / "whole.parquet"),
        model=small_clip,
        image_root=pictures,
        cache=False,
    ).read()
    first = tagger.run(manifest, KIND, model=small_clip, image_root=shop)
    assert (first.errors.total(), first.encoded_images) == (2, 6)
    (shop / NAMES[2]).write_bytes((pictures / NAMES[2]).read_bytes())
    (shop / NAMES[0]).unlink()  # its tags are there already
    again = tagger.run(
        manifest, KIND, output=tagger.Output(report=False, retry_errors=first.output), model=small_clip, image_root=shop
    )
    assert again.output == first.output
    assert (again.rows, again.errors.total(), again.encoded_images) == (8, 1, 1)
    found = again.read()
    assert found["tag_reason"][5].as_py() == f"missing: no file {NAMES[5]} in the image root {shop.resolve()}"
    good = [row for row in range(8) if row != 5]
    assert found.take(good).equals(whole.take(good))
    (shop / NAMES[5]).write_bytes((pictures / NAMES[5]).read_bytes())
    last = tagger.run(
        manifest,
        KIND,
        output=tagger.Output(report=False, retry_errors=again.output, path=tmp_path / "last.parquet"),
        model=small_clip,
        image_root=shop,
    )
    assert last.read().equals(whole)
    assert last.output.read_bytes() == (tmp_path / "whole.parquet").read_bytes()
    assert again.read().equals(found)
    nothing = tagger.run(
        manifest, KIND, output=tagger.Output(report=False, retry_errors=last.output), model=small_clip, image_root=shop
    )
    assert (nothing.encoded_images, nothing.tagged) == (0, 8)
    assert nothing.read().equals(whole)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (
            {"labels": ["hat", "bag"]},
            "expected results of the same model, labels and prompts, found other attributes and taxonomy",
        ),
        ({"manifest": [*NAMES[:7], "other.png"]}, "rows 0 to 7: expected the images of the earlier result, found others"),
        ({"manifest": NAMES[:7]}, "expected results of the 7 rows of"),
    ],
)
def test_an_earlier_result_of_another_job_is_refused(manifest, write_manifest, small_clip, shop, change, words):
    first = tagger.run(manifest, KIND, model=small_clip, image_root=shop)
    if "manifest" in change:
        names = change["manifest"]
        manifest = write_manifest(names, kind=["shirt"] * len(names), price=[1.5] * len(names))
    before = first.output.read_bytes()
    with pytest.raises(ManifestError, match=words):
        tagger.run(
            manifest,
            KIND,
            output=tagger.Output(report=False, retry_errors=first.output),
            machine=tagger.Machine(workers=0),
            model=small_clip,
            image_root=shop,
            labels=change.get("labels"),
        )
    assert first.output.read_bytes() == before


def test_a_retry_is_of_the_whole_manifest(manifest, small_clip, shop):
    first = tagger.run(manifest, KIND, model=small_clip, image_root=shop)
    with pytest.raises(UsageError, match="--retry-errors: expected it without --limit"):
        tagger.run(
            manifest,
            KIND,
            output=tagger.Output(report=False, retry_errors=first.output, limit=3),
            model=small_clip,
            image_root=shop,
        )
    with pytest.raises(ManifestError, match="expected results of tagger"):
        tagger.run(manifest, KIND, output=tagger.Output(report=False, retry_errors=manifest), model=small_clip, image_root=shop)


@pytest.mark.parametrize(("limit", "fails"), [(2, False), ("2", False), ("25%", False), (1, True), (0, True), ("24.9%", True)])
def test_more_errors_than_allowed_fail_the_run_and_its_results_go_aside(manifest, small_clip, shop, limit, fails):
    if fails:
        with pytest.raises(
            GateError, match=r"gate max_errors: expected at most \d, found 2 on 8 rows.*\nthe results are"
        ) as caught:
            tagger.run(manifest, KIND, machine=tagger.Machine(workers=0), model=small_clip, image_root=shop, max_errors=limit)
        summary = caught.value.summary
    else:
        summary = tagger.run(
            manifest, KIND, machine=tagger.Machine(workers=0), model=small_clip, image_root=shop, max_errors=limit
        )
    assert summary.output.name == ("manifest.tagged.rejected.parquet" if fails else "manifest.tagged.parquet")
    assert pq.read_table(summary.output)["tag_status"].to_pylist().count("error") == 2
    assert manifest.with_name("manifest.tagged.parquet").exists() == (not fails)


def test_rejected_results_are_completed_by_a_retry_and_published(manifest, small_clip, shop, pictures):
    with pytest.raises(GateError) as caught:
        tagger.run(manifest, KIND, machine=tagger.Machine(workers=0), model=small_clip, image_root=shop, max_errors=0)
    rejected = caught.value.summary.output
    for row in (2, 5):
        shutil.copy(pictures / NAMES[row], shop)
    done = tagger.run(
        manifest,
        KIND,
        output=tagger.Output(report=False, retry_errors=rejected),
        machine=tagger.Machine(workers=0),
        model=small_clip,
        image_root=shop,
        max_errors=0,
    )
    assert (done.output, done.encoded_images, done.errors.total()) == (manifest.with_name("manifest.tagged.parquet"), 2, 0)
    assert not rejected.exists()


def test_a_percentage_is_exact():
    assert error_limit("0.57%", 10_000) == 57
    assert error_limit("2%", 149) == 2
    assert error_limit("7", 10_000) == 7


@pytest.mark.parametrize("limit", ["-1", "x", "5 %%", "", "1.5", "nan%", "inf%"])
def test_a_limit_that_means_nothing_is_refused(manifest, small_clip, shop, limit):
    with pytest.raises(UsageError, match="--max-errors: expected a number of rows or a percentage"):
        tagger.run(manifest, KIND, model=small_clip, image_root=shop, max_errors=limit)


def test_other_formats_are_images_where_they_are_allowed(write_manifest, small_clip, pictures, tmp_path):
    for name in ("a.gif", "b.bmp", "c.png"):
        with Image.open(pictures / NAMES[0]) as image:
            image.save(tmp_path / name)
    manifest = write_manifest(["a.gif", "b.bmp", "c.png"])
    plain = {"attribute": [{"name": "kind", "labels": ["shirt", "dress"]}]}

    def statuses(**options) -> list[str]:
        table = tagger.run(manifest, plain, **keywords(model=small_clip, workers=0, overwrite=True, **options)).read()
        return table["tag_status"].to_pylist()

    assert statuses() == ["error", "error", "tagged"]
    assert statuses(allow_formats=["GIF"]) == ["tagged", "error", "tagged"]
    plain["images"] = {"allow_formats": ["GIF", "BMP"]}
    assert statuses() == ["tagged", "tagged", "tagged"]
    with pytest.raises(ConfigError, match="--allow-formats: expected some of AVIF, BMP, GIF, .* found EPS; correct it"):
        statuses(allow_formats=["EPS"])


def test_an_image_may_take_only_a_positive_time(write_manifest, small_clip):
    with pytest.raises(ConfigError, match="--image-timeout: .* greater than 0"):
        tagger.run(write_manifest(["a.png"]), model=small_clip, image_timeout=0)
