"""Debian's Chromium, driven by Playwright, looks at pages of one file and says what is wrong with them."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, Page, sync_playwright


@contextmanager
def chromium() -> Iterator[Browser]:
    """Lend a browser. Not for a whole session: while it is there, nothing else can start an event loop in this thread."""
    program = shutil.which("chromium")
    if program is None:
        pytest.skip("no chromium; apt-get install chromium")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=program, args=["--no-sandbox"])
        yield browser
        browser.close()


def open_page(browser: Browser, file: Path, **options: Any) -> tuple[Page, list[str]]:
    """Open a page; return it, and a list to which is added whatever the console says and every request but the file's.

    options: Playwright's of a context, such as viewport and color_scheme.
    """
    page, problems = browser.new_context(**options).new_page(), list[str]()
    url = file.as_uri()
    page.on("console", lambda message: problems.append(f"console: {message.type}: {message.text}"))
    page.on("pageerror", lambda error: problems.append(f"error: {error}"))
    page.on(
        "request",
        lambda request: (
            None if request.url.partition("#")[0] == url or request.url.startswith("data:") else problems.append(request.url)
        ),
    )
    page.goto(url)
    return page, problems


def serious_violations(page: Page) -> list[str]:
    """Return what axe-core finds serious or critical on the page as it is now."""
    found = Axe().run(page).response["violations"]
    return [f"{one['id']}: {one['nodes'][0]['html']}" for one in found if one["impact"] in ("serious", "critical")]
