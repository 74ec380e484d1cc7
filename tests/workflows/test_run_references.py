"""A manifest as shops write it: every spelling finds its file, what has nothing to see is reviewed, tonight and tomorrow."""

from __future__ import annotations

import shutil
from pathlib import Path
from unicodedata import normalize

import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

import tagger

SPACER = "quality: 1 x 1 pixels"
EMPTY = "quality: one colour all over"


def test_every_spelling_is_tagged_and_the_next_night_writes_the_same(tmp_path: Path, pictures: Path, small_clip: Path):
    shop = tmp_path / "shop"
    (shop / "Röcke").mkdir(parents=True)
    shutil.copy(pictures / "0000.png", shop / "Röcke" / normalize("NFD", "Größe 1.png"))
    shutil.copy(pictures / "0001.png", shop / "1.png")
    Image.new("RGBA", (1, 1), (0, 0, 0, 0)).save(shop / "spacer.png")
    Image.new("RGB", (300, 200), "white").save(shop / "empty.jpg")
    rows = {
        "Röcke/Größe 1.png": None,
        "R%C3%B6cke\\Größe%201.png\r\n": None,
        "/Röcke/Größe 1.png": None,
        "1.png": None,
        " 1.png": None,
        "spacer.png": SPACER,
        "spacer.png ": SPACER,
        "empty.jpg": EMPTY,
    }
    manifest = shop / "manifest.parquet"
    references = pa.array([name.encode() for name in rows])  # written as binary, without a word that it is text
    pq.write_table(pa.table({"image": references, "category": ["shirt"] * len(rows)}), manifest)
    config = {"attribute": [{"name": "category", "labels": ["shirt", "dress"], "truth_column": "category"}]}

    def run(name: str, workers: int = 0, **more: object) -> tagger.RunSummary:
        machine, output = tagger.Machine(workers=workers), tagger.Output(report=False, path=tmp_path / name, overwrite=True)
        return tagger.run(manifest, {**config, **more}, machine=machine, output=output, model=small_clip)

    first, again, fresh = run("1.parquet"), run("2.parquet"), run("3.parquet", workers=1)
    found = first.read()
    assert found["tag_reason"].to_pylist() == list(rows.values())
    assert found["tag_status"].to_pylist() == ["review" if reason else "tagged" for reason in rows.values()]
    assert found["category_label"].null_count == 0
    assert found["image"].combine_chunks().equals(references)
    assert (first.encoded_images, again.encoded_images, fresh.encoded_images) == (4, 0, 0)
    assert (first.evaluation is not None, first.review) == (True, 3)
    assert again.output.read_bytes() == fresh.output.read_bytes() == first.output.read_bytes()
    [attribute] = config["attribute"]
    unsure = run("4.parquet", attribute=[{**attribute, "review_below": 1.0}]).read()["tag_reason"].to_pylist()
    assert unsure[5].startswith(f"{SPACER}; low-confidence: category ")
    assert unsure[0].startswith("low-confidence: category ")
    # Other limits judge what was measured when the picture was decoded.
    strict = run("5.parquet", quality={"min_side": 29, "max_brightness": 0.5})
    assert strict.encoded_images == 0
    assert strict.read()["tag_reason"].to_pylist() == [*["quality: 28 x 28 pixels"] * 5, SPACER, SPACER, EMPTY]
