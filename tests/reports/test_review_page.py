"""review.html in a browser: corrected by keyboard, kept, saved, applied, and the next night is evaluated on it."""

from __future__ import annotations

import csv
import io
import json
from collections import Counter
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from playwright.sync_api import Browser, Page, expect

import tagger
from tagger.catalog.outputs import run_folder
from tagger.core.errors import ManifestError
from tests.conftest import SAMPLE
from tests.helpers.browser import chromium, open_page, serious_violations
from tests.helpers.hostile import HOSTILE
from tests.helpers.keywords import keywords, machine_keywords
from tests.helpers.results import write_result

PHONE = {"viewport": {"width": 390, "height": 844}, "has_touch": True}
ROWS = 120  # of the sample catalogue


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with chromium() as found:
        yield found


@pytest.fixture(scope="module")
def night(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    """The first rows of the sample catalogue, and the settings of its nights."""
    folder = tmp_path_factory.mktemp("night")
    pq.write_table(pq.read_table(SAMPLE / "manifest.parquet").slice(0, ROWS), folder / "manifest.parquet")
    labels = ["t-shirt", "trousers", "pullover", "dress", "coat", "sandal", "shirt", "sneaker", "bag", "ankle boot"]
    settings = {
        "model": {"name": str(SAMPLE / "model")},
        "manifest": {"image_root": str(SAMPLE / "images"), "id_column": "product_id"},
        "cache": {"folder": str(folder / "cache")},
        "attribute": [{"name": "category", "labels": labels, "truth_column": "category", "review_below": 0.9}],
    }
    return folder / "manifest.parquet", settings


def tag(manifest: Path, settings: dict[str, Any]) -> tagger.RunSummary:
    return tagger.run(manifest, settings, **keywords(workers=0, overwrite=True))


def save(page: Page, file: Path) -> list[dict[str, str]]:
    """Press the button; return the rows of the file that it saves."""
    with page.expect_download() as download:
        page.locator("#save").click()
    assert download.value.suggested_filename == "corrections.csv"
    download.value.save_as(file)
    return list(csv.DictReader(io.StringIO(file.read_text("utf-8-sig"), newline="")))


def answer_by_keyboard(page: Page, number: int, label: str) -> None:
    """Answer the row that is shown: now with a digit, now by search, now with a note."""
    if number % 10 == 8:
        page.keyboard.press("n")
    elif number % 10 == 9:
        page.keyboard.press("b")
    elif number % 4 == 3:
        page.keyboard.press("o")
        page.keyboard.type(label)
        page.keyboard.press("Enter")
    else:
        page.keyboard.press(str(1 + number % 3))


def test_twenty_rows_corrected_by_keyboard_are_what_the_next_night_differs_by(browser: Browser, night, tmp_path: Path):
    manifest, settings = night
    first = tag(manifest, settings)
    [file] = tagger.review(first.output, workers=0)
    page, problems = open_page(browser, Path(file), viewport={"width": 1280, "height": 900})
    assert page.title().startswith("Review of category ")
    assert serious_violations(page) == []
    assert page.locator("#picture").evaluate("image => image.decode().then(() => image.naturalWidth)") == 384
    page.locator("#who").fill("Ann")
    page.locator("#who").blur()
    names = []
    for number in range(20):
        names.append(page.locator("#item-name").inner_text())
        answer_by_keyboard(page, number, "ankle")
    assert page.locator("#counts").inner_text().startswith("20 of ")
    assert len(set(names)) == 20
    rows = save(page, tmp_path / "corrections.csv")
    assert problems == []
    page.context.close()

    assert sorted(row["id"] for row in rows) == sorted(names)
    assert Counter(row["note"] for row in rows) == {"": 16, "not-in-list": 2, "bad-picture": 2}
    assert {row["by"] for row in rows} == {"Ann"}
    assert all(abs((datetime.fromisoformat(row["at"]) - datetime.now(UTC)).total_seconds()) < 600 for row in rows)
    by_id = {row["id"]: row for row in rows}
    for number, name in enumerate(names):
        if number % 10 < 8 and number % 4 == 3:
            assert by_id[name]["correction"] == "ankle boot"
        elif number % 10 < 8 and number % 3 < 2:
            assert by_id[name]["correction"] == by_id[name][("label", "second")[number % 3]]

    # Some rows have truth that looks wrong, and are asked about for it.
    truth = {row["product_id"]: row["category"] for row in pq.read_table(manifest).to_pylist()}
    applied = tagger.apply_corrections(tmp_path / "corrections.csv", manifest, settings, overwrite_truth=True)
    assert applied.written + applied.confirmed == 20
    second = tag(manifest, settings)
    assert second.encoded_images == 0
    before, after = (np.array(run.evaluation.attributes["category"].confusion_matrix) for run in (first, second))
    labels = settings["attribute"][0]["labels"]
    difference = np.zeros_like(before)
    for row in rows:
        if truth[row["id"]] in labels:
            difference[labels.index(truth[row["id"]]), labels.index(row["label"])] -= 1
        if row["correction"]:
            difference[labels.index(row["correction"]), labels.index(row["label"])] += 1
    assert (after - before).tolist() == difference.tolist()
    assert second.evaluation.attributes["category"].unknown_rows == first.evaluation.attributes["category"].unknown_rows
    assert tagger.evaluate(second.output).attributes["category"].confusion_matrix == after.tolist()

    # What learns from labelled rows learns from these.
    found = tagger.calibrate(manifest, tmp_path / "calibration.json", settings, **machine_keywords(workers=0)).attributes[
        "category"
    ]
    assert found.fitted_rows + found.held_out_rows == int(after.sum())


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A result of 30 pictures and four labels, and its page."""
    folder = tmp_path_factory.mktemp("small")
    images = [f"{number:04d}.png" for number in range(30)]
    result = write_result(
        folder / "night.parquet",
        30,
        {"kind": ["dress", "hat", "shoes", "bag"]},
        images,
        truth=False,
        image_root=SAMPLE / "images",
    )
    return Path(tagger.review(result, workers=0)[0])


def test_answers_are_kept_undone_skipped_and_filtered(browser: Browser, small: Path, tmp_path: Path):
    page, problems = open_page(browser, small)
    item, counts, filters = page.locator("#item-name"), page.locator("#counts"), page.locator("#filter")
    total = int(counts.inner_text().split()[2])
    # All labels have a key where there are no more than nine.
    texts = page.locator("#labels button").all_inner_texts()
    assert [text.split()[0] for text in texts] == ["1", "2", "3", "4"]
    assert {text.split()[1] for text in texts} == {"dress", "hat", "shoes", "bag"}
    first = item.inner_text()
    page.keyboard.press("2")
    second = item.inner_text()
    page.keyboard.press("b")
    assert counts.inner_text() == f"2 of {total} answered"
    third = item.inner_text()
    assert len({first, second, third}) == 3

    page.reload()
    assert counts.inner_text() == f"2 of {total} answered"
    assert item.inner_text() == third
    page.keyboard.press("u")
    assert (item.inner_text(), counts.inner_text()) == (second, f"1 of {total} answered")
    page.keyboard.press("Control+z")
    assert (item.inner_text(), counts.inner_text()) == (first, f"0 of {total} answered")
    assert page.locator("#undo").is_disabled()

    # Skipped rows come again after all others; arrows go everywhere, to answered rows, too.
    page.keyboard.press("s")
    assert item.inner_text() == second
    page.keyboard.press("1")
    page.keyboard.press("ArrowLeft")
    assert item.inner_text() == second
    assert page.locator("#answered").inner_text().startswith("Answered: ")
    page.keyboard.press("ArrowLeft")
    assert item.inner_text() == first
    page.keyboard.press("ArrowRight")
    page.keyboard.press("n")  # another answer takes the place of the first
    assert counts.inner_text() == f"1 of {total} answered"
    [row] = save(page, tmp_path / "one.csv")
    assert (row["id"], row["note"], row["correction"]) == (second, "not-in-list", "")

    # A filter shows the rows with one tag, and says how many are open.
    option = filters.locator("option").nth(1)
    label, (opened, *_) = option.inner_text().split(" (")[0], option.inner_text().split("(")[1].split()
    filters.select_option(label=option.inner_text())
    shown = int(page.locator("#place").inner_text().split(" / ")[1])
    for _ in range(int(opened)):
        assert page.locator("#labels button").first.inner_text().split()[1] == label
        filters.blur()
        page.keyboard.press("1")
    expect(page.locator("#done")).to_be_visible()
    assert filters.locator("option").nth(1).inner_text() == f"{label} (0 open)"
    assert int(page.locator("#place").inner_text().split(" / ")[1]) == shown
    filters.select_option(value="")
    filters.blur()
    while page.locator("#done").is_hidden():
        page.keyboard.press("1")
    assert counts.inner_text() == f"{total} of {total} answered"
    assert len(save(page, tmp_path / "all.csv")) == total
    assert serious_violations(page) == []
    assert problems == []
    page.context.close()


def test_keys_are_listed_and_letters_in_fields_are_no_keys(browser: Browser, small: Path):
    page, problems = open_page(browser, small, color_scheme="dark")
    page.keyboard.press("?")
    expect(page.locator("#keys")).to_be_visible()
    assert serious_violations(page) == []
    page.keyboard.press("1")
    page.keyboard.press("Escape")
    page.locator("#who").press_sequentially("bob n. 123")
    assert page.locator("#counts").inner_text().startswith("0 of ")
    page.locator("#who").blur()
    page.keyboard.press("/")
    page.keyboard.type("no such")
    expect(page.locator("#no-label")).to_be_visible()
    page.locator("#search").fill("a")
    assert page.locator("#all li:visible").all_inner_texts() == ["hat", "bag"]
    assert serious_violations(page) == []
    page.keyboard.press("ArrowDown")
    page.keyboard.press("ArrowDown")
    page.keyboard.press("Enter")
    assert page.locator("#said").inner_text().endswith(": bag")
    page.reload()
    assert page.locator("#who").input_value() == "bob n. 123"
    assert problems == []
    page.context.close()


def test_on_a_phone_the_answers_are_on_the_first_screen(browser: Browser, small: Path):
    page, problems = open_page(browser, small, **PHONE)
    assert page.evaluate("document.documentElement.scrollWidth") == 390
    box = page.locator("#skip").bounding_box()
    assert box is not None
    assert box["y"] + box["height"] <= 844
    page.locator("#labels button").nth(1).tap()
    assert page.locator("#counts").inner_text().startswith("1 of ")
    assert serious_violations(page) == []
    assert problems == []
    page.context.close()


def test_where_the_browser_keeps_nothing_the_page_says_so(browser: Browser, small: Path, tmp_path: Path):
    context = browser.new_context()
    context.add_init_script("Storage.prototype.setItem = () => { throw new DOMException('denied', 'SecurityError'); };")
    page = context.new_page()
    page.goto(small.as_uri())
    expect(page.locator("#unkept")).to_be_visible()
    page.keyboard.press("1")
    assert len(save(page, tmp_path / "kept.csv")) == 1
    context.close()


def test_hostile_text_is_text_on_the_page_in_the_file_and_in_the_manifest(browser: Browser, tmp_path: Path):
    assert len(set(HOSTILE)) >= 30
    labels = [*HOSTILE, "dress"]
    images = [f"{number:04d}.png" for number in range(len(labels))]
    result = write_result(
        tmp_path / "night.parquet", len(labels), {"kind": labels}, images, truth=False, image_root=SAMPLE / "images"
    )
    ids = ["__proto__", *(text or "empty" for text in HOSTILE)]
    table = pq.read_table(result)
    pq.write_table(table.set_column(0, table.schema.field("id"), pa.array(ids[: len(table)])), result)
    summary = run_folder(result) / "summary.json"
    content = json.loads(summary.read_text())
    content["settings"]["attribute"][0]["truth_column"] = "truth"
    summary.write_text(json.dumps(content))

    page, problems = open_page(browser, Path(tagger.review(result, workers=0)[0]))
    page.on("dialog", lambda dialog: problems.append(f"dialog: {dialog.message}"))
    total, elements, attributes = int(page.locator("#counts").inner_text().split()[2]), set(), set()
    assert total >= 30
    for number in range(total):
        elements |= set(page.evaluate("[...document.querySelectorAll('*')].map(one => one.localName)"))
        attributes |= set(page.evaluate("[...document.querySelectorAll('*')].flatMap(one => one.getAttributeNames())"))
        page.keyboard.press("o")
        page.locator("#all button").nth(number).click()
    assert elements.isdisjoint({"iframe", "object", "embed", "base", "form", "math", "foreignobject"})
    assert page.locator("script").count() == 2
    assert page.locator("img").count() == 1
    assert not [name for name in attributes if name.startswith("on") or name == "style"]
    assert page.evaluate("window.hit") is None
    assert serious_violations(page) == []
    file = tmp_path / "corrections.csv"
    rows = save(page, file)
    assert problems == []
    page.context.close()

    assert len(rows) == total
    for cells in csv.reader(io.StringIO(file.read_text("utf-8-sig"), newline="")):
        assert not [cell for cell in cells if cell[:1] in tuple("=+-@\t\r\n")]
    settings = {"attribute": [{"name": "kind", "labels": labels, "truth_column": "truth"}]}
    assert tagger.apply_corrections(file, result, settings).written == total
    after = {row["id"]: row["truth"] for row in pq.read_table(result).to_pylist()}
    assert sorted(truth for truth in after.values() if truth is not None) == sorted(labels[:total])
    with pytest.raises(ManifestError) as error:
        tagger.apply_corrections(file, result, {"labels": ["x", "y"], **settings}, labels=["x", "y"])
    assert str(error.value).isprintable()
