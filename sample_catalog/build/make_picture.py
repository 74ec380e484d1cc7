"""Take the README's picture: the report of the sample catalogue's run, as a browser shows it.

tagger run sample_catalog/manifest.parquet --output tagged.parquet
python sample_catalog/build/make_picture.py tagged.run/report.html --output sample_catalog/report.png

Needs Playwright (`pip install playwright`) and Chromium (`apt-get install chromium`).
"""

from __future__ import annotations

import argparse
import io
import shutil
from pathlib import Path

from PIL import Image
from playwright.sync_api import sync_playwright

# What is left out of the picture, so that figures, labels, confusions and mistakes fit into it.
HIDDEN = """
nav, #theme, .notes, #run, #since, #drift, #evaluation-department, #evaluation-category > :nth-child(n + 4),
[aria-label="Who decided category"] { display: none !important; }
"""
WIDTH, HEIGHT = 1280, 1130


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("report", type=Path, help="report.html of the sample catalogue")
    parser.add_argument("--output", type=Path, required=True, help="PNG file")
    options = parser.parse_args()
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox"])
        context = browser.new_context(viewport={"width": WIDTH, "height": HEIGHT}, bypass_csp=True)
        page = context.new_page()
        page.goto(options.report.resolve().as_uri())
        page.add_style_tag(content=HIDDEN)
        picture = page.screenshot(clip={"x": 0, "y": 0, "width": WIDTH, "height": HEIGHT}, full_page=True)
        browser.close()
    # 128 colours are enough for a page, and a third of the bytes.
    image = Image.open(io.BytesIO(picture)).convert("RGB").quantize(128, dither=Image.Dither.NONE)
    image.save(options.output, optimize=True)


if __name__ == "__main__":
    main()
