"""Simulate a small shop for month.py: a catalogue of the sample's products that always grows, changes and breaks alike."""

from __future__ import annotations

import hashlib
import os
import random
import shutil
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image
from safetensors.numpy import load_file, save_file

from tagger.images.file_versions import SETTLED_NS

SAMPLE = Path(__file__).parents[2] / "sample_catalog"
# A month has to be the same on every machine: with precision "auto", some would try bf16 on the first images.
SETTINGS = """
[gates]
min_accuracy = 0.7
min_labelled_rows = 12
max_error_rate = 0.1
max_changed_labels = 0.15
"""


class Catalogue:
    """Hold manifest, settings, pictures and model in `folder`; all state is there, so that a copy of it allows going back."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.manifest, self.settings = folder, folder / "manifest.parquet", folder / "tagger.toml"
        self.images, self.model = folder / "images", folder / "model"
        self._random = random.Random(6)
        self._new = _products()
        self.images.mkdir(parents=True)
        shutil.copytree(SAMPLE / "model", self.model)
        text = (SAMPLE / "tagger.toml").read_text().replace('name = "model"', 'name = "model"\nprecision = "fp32"')
        self.settings.write_text(text + SETTINGS)
        self._write([])

    def rows(self) -> list[dict[str, Any]]:
        return list(pq.read_table(self.manifest).to_pylist())

    def contents(self) -> set[str]:
        """Return the hashes of the pictures that the manifest names and that can be decoded: each is encoded once."""
        found = set()
        for name in {row["image_path"] for row in self.rows()}:
            try:
                with Image.open(self.images / name) as picture:
                    picture.load()
            except OSError:
                continue
            found.add(sha256(self.images / name))
        return found

    def state(self) -> str:
        """Return a hash of every file's name and bytes: what a result depends on."""
        files = sorted(path for path in self.folder.rglob("*") if path.is_file())
        hashes = (f"{path.relative_to(self.folder)} {sha256(path)}" for path in files)
        return hashlib.sha256("\n".join(hashes).encode()).hexdigest()

    def add(self, count: int) -> None:
        rows = self.rows()
        columns = rows[0].keys() if rows else None
        for _ in range(count):
            product, picture = next(self._new)
            product["image_path"] = f"{product['product_id']}.png"
            _save(picture, self.images / product["image_path"])
            rows.append({name: product.get(name) for name in columns or product})
        self._write(rows)

    def add_with_known_pictures(self, count: int) -> None:
        """Add products with new files that hold the bytes of others."""
        rows = self.rows()
        for row in rows[:count]:
            twin = row | {"product_id": f"{row['product_id']}b", "image_path": f"{row['product_id']}b.png"}
            shutil.copyfile(self.images / row["image_path"], self.images / twin["image_path"])
            rows.append(twin)
        self._write(rows)

    def replace_pictures(self, count: int, keep_times: bool) -> None:
        """Replace pictures under the same names by others of the same size and, with `keep_times`, the same modification time.

        Return when they are so old that a run does not read them for their age alone.
        """
        for row in self._random.sample(self._unlabelled(), count):
            file = self.images / row["image_path"]
            before = file.stat()
            _save(next(picture for product, picture in self._new if product["category"] is None), file)
            assert file.stat().st_size == before.st_size
            if keep_times:
                os.utime(file, ns=(before.st_atime_ns, before.st_mtime_ns))
        time.sleep(SETTLED_NS / 1e9 + 0.1)

    def delete(self, count: int) -> None:
        """Delete some rows and their pictures, and put the others in another order."""
        rows = self.rows()
        self._random.shuffle(rows)
        for row in rows[:count]:
            (self.images / row["image_path"]).unlink()
        self._write(rows[count:])

    def add_column(self) -> None:
        self._write([row | {"season": "winter" if row["price_cents"] % 200 else "summer"} for row in self.rows()])

    def add_label(self) -> None:
        text = self.settings.read_text()
        self.settings.write_text(text.replace('"ankle boot"', '"ankle boot", "hat"'))

    def misspell_gate(self) -> None:
        self.settings.write_text(self.settings.read_text().replace("max_error_rate", "max_error_rat"))

    def train_model(self) -> None:
        """Change each weight of the model a little."""
        file, chance = self.model / "model.safetensors", np.random.default_rng(6)
        weights = load_file(file)
        for name, values in weights.items():
            weights[name] = np.asarray(values * (1 + 0.002 * chance.standard_normal(values.shape)), values.dtype)
        save_file(weights, file, {"format": "pt"})

    def cut_manifest(self) -> None:
        self.manifest.write_bytes(self.manifest.read_bytes()[:-1000])

    def lose_picture(self) -> None:
        """Add a product whose picture comes later."""
        self.add(1)
        (self.images / self.rows()[-1]["image_path"]).rename(self.folder / "late.png")

    def find_picture(self) -> None:
        (self.folder / "late.png").rename(self.images / self.rows()[-1]["image_path"])

    def unmount(self) -> None:
        self.images.rename(self.folder / "unmounted")

    def empty(self) -> None:
        """Leave an empty mount point."""
        self.unmount()
        self.images.mkdir()

    def corrupt(self) -> None:
        for row in self.rows()[::2]:
            file = self.images / row["image_path"]
            os.truncate(file, file.stat().st_size // 2)

    def spoil_truth(self) -> None:
        """Give rows the ground truth of other rows."""
        self._shift("category", [row["product_id"] for row in self.rows() if row["category"] is not None])

    def mix_up_pictures(self) -> None:
        """Give rows the pictures of other rows, none of which has ground truth, so that accuracy does not show it."""
        self._shift("image_path", [row["product_id"] for row in self._unlabelled()])

    def _unlabelled(self) -> list[dict[str, Any]]:
        return [row for row in self.rows() if row["category"] is None]

    def _shift(self, column: str, products: Sequence[str]) -> None:
        rows = self.rows()
        chosen = [row for row in rows if row["product_id"] in products]
        values = [row[column] for row in chosen]
        for row, value in zip(chosen, values[1:] + values[:1], strict=True):
            row[column] = value
        self._write(rows)

    def _write(self, rows: Sequence[dict[str, Any]]) -> None:
        schema = pq.read_schema(SAMPLE / "manifest.parquet")
        if rows and "season" in rows[0]:
            schema = schema.append(pa.field("season", pa.string()))
        pq.write_table(pa.Table.from_pylist(list(rows), schema), self.manifest)


Change = Callable[[Catalogue], None]


def sha256(file: Path) -> str:
    return hashlib.sha256(file.read_bytes()).hexdigest()


def _products() -> Iterator[tuple[dict[str, Any], Image.Image]]:
    """Yield the sample's rows and pictures, without those three that are bad on purpose."""
    for product in pq.read_table(SAMPLE / "manifest.parquet").to_pylist():
        try:
            with Image.open(SAMPLE / "images" / product["image_path"]) as picture:
                yield product, picture.copy()
        except OSError:
            continue


def _save(picture: Image.Image, file: Path) -> None:
    picture.save(file, compress_level=0)  # so that all files have one size
