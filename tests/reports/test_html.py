"""report.html in a browser, and its size: of the sample catalogue's run and of results made for it."""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, Page

import tagger
from tagger.core.text import one_line
from tagger.reports.html import MAX_BYTES
from tagger.workflows.report import report
from tests.conftest import SAMPLE
from tests.helpers.browser import chromium, open_page, serious_violations
from tests.helpers.hostile import HOSTILE
from tests.helpers.results import write_result

LABELS = ("shirt", "dress", "shoes")
PHONE = {"viewport": {"width": 390, "height": 844}}


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with chromium() as found:
        yield found


@pytest.fixture(scope="module")
def sample(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The sample catalogue, tagged as the README says."""
    folder = tmp_path_factory.mktemp("sample") / "catalog"
    shutil.copytree(SAMPLE, folder)
    tagger.run(folder / "manifest.parquet", cache=False)
    return folder / "manifest.tagged.run" / "report.html"


def rows_of(page: Page, table: str) -> list[list[str]]:
    """The cells' texts of a table's body."""
    found: list[list[str]] = (
        page.locator(table)
        .locator("tbody tr")
        .evaluate_all("rows => rows.map(row => [...row.cells].map(cell => cell.innerText.trim()))")
    )
    return found


def pictures_are_drawn(page: Page) -> bool:
    """Whether all pictures of the page have pixels, and there are some."""
    widths = page.locator("img").evaluate_all("images => Promise.all(images.map(i => i.decode().then(() => i.naturalWidth)))")
    return bool(widths) and min(widths) > 0


def test_the_sample_runs_report_can_be_read_and_used(browser: Browser, sample: Path):
    page, problems = open_page(browser, sample, viewport={"width": 1280, "height": 900})
    assert page.title() == "Tagger report: manifest.tagged.parquet"
    assert page.locator("h1").inner_text() == "published These tags are published; no gate is set"
    assert page.locator(".verdict .tile").first.inner_text().split() == ["rows", "600"]
    assert pictures_are_drawn(page)
    assert serious_violations(page) == []

    # The worst label first; a button sorts, and once more the other way round.
    table = "#evaluation-category .sortable"
    by_f1 = rows_of(page, table)
    assert [float(row[5]) for row in by_f1] == sorted(float(row[5]) for row in by_f1)
    assert by_f1[0][0] == "shirt"
    for order, reverse in (("descending", True), ("ascending", False)):
        page.locator(table).get_by_role("button", name="tagged").click()
        tagged = [int(row[1]) for row in rows_of(page, table)]
        assert tagged == sorted(tagged, reverse=reverse)
        assert page.locator(f"{table} th").nth(1).get_attribute("aria-sort") == order
        assert page.locator(f"{table} th").nth(5).get_attribute("aria-sort") is None
    page.locator(table).get_by_role("button", name="label").click()
    assert [row[0] for row in rows_of(page, table)] == sorted(row[0] for row in by_f1)

    # A number of the confusion matrix opens its examples, and nothing else.
    assert page.locator(".examples:visible").count() == 0
    page.get_by_role("link", name="7 rows: truth shirt, tagged t-shirt").click()
    [heading] = page.locator(".examples:visible h3").all_inner_texts()
    assert heading == "Truth shirt, tagged t-shirt: 7 rows"
    shown = page.locator(".examples:visible .pick")
    assert shown.count() == 3
    assert all("t-shirt" in text and "truth: shirt" in text for text in shown.all_inner_texts())
    assert serious_violations(page) == []
    page.locator(".examples:visible").get_by_role("link", name="Close").click()
    assert page.locator(".examples:visible").count() == 0

    # Light, dark, and still dark after another look.
    background = "getComputedStyle(document.body).backgroundColor"
    light = page.evaluate(background)
    page.get_by_role("button", name="Dark").click()
    assert page.evaluate(background) != light
    assert page.get_by_role("button", name="Dark").get_attribute("aria-pressed") == "true"
    assert serious_violations(page) == []
    page.reload()
    assert page.evaluate(background) != light
    assert problems == []


def tab_through(page: Page) -> set[str]:
    """Press Tab from the top until the page ends; return what had the focus, each of which shows it."""
    page.evaluate("document.activeElement.blur(), location.hash = '', scrollTo(0, 0)")
    page.reload()
    seen = set()
    for _ in range(500):
        page.keyboard.press("Tab")
        if page.evaluate("document.activeElement === document.body"):
            return seen
        seen.add(page.evaluate("document.activeElement.tagName + ' ' + document.activeElement.innerText"))
        assert page.evaluate("getComputedStyle(document.activeElement).outlineStyle") != "none"
    pytest.fail("expected Tab to leave the page in the end")


def test_the_report_is_usable_by_keyboard(browser: Browser, sample: Path):
    page, problems = open_page(browser, sample, viewport={"width": 1280, "height": 900})
    focused = "document.activeElement.innerText || document.activeElement.getAttribute('aria-label')"
    page.keyboard.press("Tab")
    assert page.evaluate(focused) == "Skip to the content"
    page.keyboard.press("Enter")
    assert page.evaluate("document.activeElement.id") == "main"

    # The matrix is one stop; arrows go on inside it.
    matrix = page.locator("#evaluation-category .matrix a")
    assert matrix.evaluate_all("links => links.filter(link => link.tabIndex === 0).length") == 1
    matrix.first.focus()
    page.keyboard.press("ArrowRight")
    assert page.evaluate("document.activeElement.getAttribute('aria-label')") == "1 row: truth t-shirt, tagged pullover"
    page.keyboard.press("End")
    page.keyboard.press("ArrowDown")
    assert page.evaluate("document.activeElement.getAttribute('aria-label')") == "35 rows: truth bag, tagged bag"
    page.keyboard.press("Enter")
    assert page.locator(".examples:visible h3").inner_text() == "Truth bag, tagged bag: 35 rows"

    assert {"BUTTON Dark", "BUTTON precision", "A Gallery"} <= tab_through(page)
    assert problems == []


def test_the_report_fits_a_phone(browser: Browser, sample: Path):
    page, problems = open_page(browser, sample, color_scheme="dark", **PHONE)
    assert page.evaluate("document.documentElement.scrollWidth") == 390
    assert serious_violations(page) == []
    assert problems == []


def test_the_report_of_a_large_run_works_as_that_of_a_small_one(browser: Browser, pictures: Path, tmp_path: Path):
    """10,000 rows of 30 labels: the confusions are a list."""
    images = [f"{number:04d}.png" for number in range(600)]
    labels = [f"label {number}" for number in range(30)]
    errors = ["missing: no file a.jpg", "truncated: the pixels end too early"]
    brands = {"brand": ["Acme"] * 7 + [f"Brand {number}" for number in range(20)], "rare": [None] * 999 + ["seldom"]}
    result = write_result(
        tmp_path / "r.parquet", 10_000, {"kind": labels}, images, image_root=pictures, errors=errors, columns=brands
    )
    built = report(result, slices=["brand", "rare"], workers=2)
    page, problems = open_page(browser, Path(built), viewport={"width": 1280, "height": 900})
    assert page.locator(".verdict .tile").first.inner_text().split() == ["rows", "10,000"]
    assert pictures_are_drawn(page)
    assert serious_violations(page) == []
    support = [int(row[6]) for row in rows_of(page, "#evaluation-kind .sortable >> nth=0")]
    assert len(support) == 30
    confusions = "#evaluation-kind .sortable >> nth=1"
    found = rows_of(page, confusions)
    assert page.locator(confusions).locator("caption").inner_text() == "Of 30 labels that occur; a number opens examples"
    assert [int(row[2]) for row in found] == sorted((int(row[2]) for row in found), reverse=True)
    page.locator(confusions).get_by_role("button", name="truth", exact=True).click()
    assert [row[0] for row in rows_of(page, confusions)] == sorted(row[0] for row in found)
    page.locator(confusions).get_by_role("link").first.click()
    truth, tagged, rows, _ = rows_of(page, confusions)[0]
    assert page.locator(".examples:visible h3").inner_text() == f"Truth {truth}, tagged {tagged}: {rows} rows"
    slices = rows_of(page, "#slices table >> nth=0")
    assert {row[0] for row in slices} == {*brands["brand"]}
    assert [float(row[1].removesuffix(" %")) for row in slices] == sorted(float(row[1].removesuffix(" %")) for row in slices)
    assert [row[0] for row in rows_of(page, "#slices table >> nth=1")] == ["no value", "seldom few rows"]
    page.get_by_role("button", name="Dark").click()
    assert page.locator("html").get_attribute("data-theme") == "dark"
    codes = [row[0] for row in rows_of(page, "#errors table")]
    assert codes == sorted(codes, key=["missing", "truncated"].index)
    assert len(codes) == 24
    assert {"BUTTON Dark", "BUTTON rows", "A label 7", "A Gallery"} <= tab_through(page)
    assert problems == []


def test_hostile_text_comes_out_as_text(browser: Browser, tmp_path: Path):
    """Labels, truths, ids, references, brands, reasons: the page has the elements of a harmless one, and shows the texts."""

    def made(name: str, texts: Sequence[str]) -> Page:
        result = write_result(
            tmp_path / f"{name}.parquet",
            2000,
            {"kind": texts},
            [f"{number} {text}" for number, text in enumerate(texts)],
            ids=[f"{number} {text}" for number, text in enumerate(texts)],
            errors=[f"c{number}: {text}" for number, text in enumerate(texts[:30])] + [texts[-1]],
            error_share=0.2,
            columns={"brand": texts},
        )
        page, problems = open_page(browser, Path(report(result, slices=["brand"], workers=0)))
        page.on("dialog", lambda dialog: problems.append(f"dialog: {dialog.message}"))
        for link in page.locator(".matrix a, th button").all():
            link.dispatch_event("click")
        assert problems == []
        return page

    harmless = made("harmless", [f"harmless {number}" for number in range(len(HOSTILE))])
    hostile = made("hostile", HOSTILE)
    count = """() => {
        const counts = {};
        for (const element of document.querySelectorAll("*")) counts[element.tagName] = (counts[element.tagName] ?? 0) + 1;
        return counts;
    }"""
    assert hostile.evaluate(count) == harmless.evaluate(count)
    assert hostile.evaluate("window.hit") is None
    shown = set(hostile.locator("bdi").evaluate_all("all => all.map(one => one.textContent)"))
    whole = set(hostile.locator("bdi").evaluate_all("all => all.map(one => one.title || one.textContent)"))
    for text in HOSTILE:
        assert cut(text, 3000) in whole
        assert cut(text, 40) in shown
    assert all(text.isprintable() or set(text) & set("\u200c\u200d\u00a0\u3000") for text in shown)
    assert serious_violations(hostile) == []


def cut(text: str, length: int) -> str:
    line = one_line(text) if text.strip() else f'"{text}"'
    return line if len(line) <= length else line[: length - 1].rstrip() + "…"


@pytest.mark.parametrize(
    ("rows", "options", "expected"),
    [
        (0, {}, ["No row was tagged", "0"]),
        (40, {"error_share": 1.0}, ["100.0 %", "Rows with an error", "No row with a truth value in kind was tagged"]),
        (40, {"truth": False}, ["No truth column is named", "random rows of each label"]),
        (40, {"summary": False}, ["A result without the summary of its run", "accuracy of kind"]),
    ],
    ids=["no row", "errors only", "no truth", "no summary"],
)
def test_a_run_of_another_kind_has_a_report_too(
    browser: Browser, pictures: Path, tmp_path: Path, rows: int, options: dict[str, Any], expected: list[str]
):
    images = [str(pictures / f"{number:04d}.png") for number in range(9)]
    result = write_result(tmp_path / "r.parquet", rows, {"kind": ("yes", "no")}, images, image_root=pictures, **options)
    page, problems = open_page(browser, Path(report(result, workers=0, image_root=pictures)), **PHONE)
    text = page.locator("main").inner_text()
    assert [part for part in expected if part not in text] == []
    assert "nan" not in text.lower().split()
    assert page.evaluate("document.documentElement.scrollWidth") == 390
    assert serious_violations(page) == []
    assert problems == []


@pytest.mark.parametrize("length", [8, 3000])
def test_the_page_stays_small_with_many_labels_and_attributes(shared_data: Path, tmp_path: Path, length: int):
    """Three attributes of 200 labels, with photos: as many pictures as fit, the important ones first."""
    images = [str(path) for path in sorted((shared_data / "clothing").rglob("*.jpg"))]
    labels = [f"{number} {chr(0x1F457) * length}" for number in range(200)]
    attributes = dict.fromkeys(("kind", "colour", "season"), labels)
    result = write_result(tmp_path / "r.parquet", 5000, attributes, images, image_root=Path("/"))
    html = Path(report(result, workers=2)).read_bytes()
    assert len(html) <= MAX_BYTES
    assert b'<img src="data:image/webp;base64,' in html
    mistakes = html.index(b"kind: the most confident mistakes")
    assert b"<img" in html[mistakes : mistakes + 20_000]


def test_the_same_result_gives_the_same_page(pictures: Path, tmp_path: Path):
    images = [f"{number:04d}.png" for number in range(40)]
    result = write_result(tmp_path / "r.parquet", 300, {"kind": LABELS}, images, image_root=pictures)
    first = {path.name: path.read_bytes() for path in Path(report(result)).parent.iterdir()}
    assert set(first) == {"report.html", "summary.json", "confusion-kind.png", "examples-kind.png"}
    assert {path.name: path.read_bytes() for path in Path(report(result)).parent.iterdir()} == first
