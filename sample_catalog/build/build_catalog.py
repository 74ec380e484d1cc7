"""Build sample_catalog/manifest.parquet and images/ from Fashion-MNIST's test split: the same bytes every time.

    python sample_catalog/build/build_catalog.py --fashion-mnist DIR

600 product pictures, 60 of each class, in random order; about half the rows carry their category and department. Three
rows are bad on purpose: a file that is missing, one that is cut off, one that is not an image.
"""

import argparse
import random
from io import BytesIO
from pathlib import Path

import fashion_mnist
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

CATALOG = Path(__file__).parents[1]
ROWS = 600
DEPARTMENTS = {
    "tops": ("t-shirt", "pullover", "shirt"),
    "outerwear": ("coat",),
    "bottoms": ("trousers",),
    "dresses": ("dress",),
    "footwear": ("sandal", "sneaker", "ankle boot"),
    "accessories": ("bag",),
}
DEPARTMENT = {category: department for department, categories in DEPARTMENTS.items() for category in categories}
SHOPS = ("Norden", "Alba", "Fjord & Co", "Maison Rive", "Plainfield")


def build(source: Path) -> None:
    images, classes = fashion_mnist.read(source, "t10k")
    draw = random.Random(0)
    picked = [row for label in range(10) for row in draw.sample(np.flatnonzero(classes == label).tolist(), ROWS // 10)]
    draw.shuffle(picked)
    folder = CATALOG / "images"
    folder.mkdir(exist_ok=True)
    for old in folder.iterdir():
        old.unlink()
    missing, truncated, no_image = draw.sample(range(ROWS), 3)
    rows = []
    for number, row in enumerate(picked):
        category = fashion_mnist.CLASSES[classes[row]]
        path = f"{number:04d}.png"
        buffer = BytesIO()
        Image.fromarray(images[row]).save(buffer, "PNG", optimize=True)
        data = buffer.getvalue()
        if number == truncated:
            data = data[: len(data) // 2]
        if number == no_image:
            data = b"<html><body>404 Not Found</body></html>\n"
        if number != missing:
            (folder / path).write_bytes(data)
        known = draw.random() < 0.5
        rows.append(
            {
                "product_id": f"P{10_000 + number}",
                "image_path": path,
                "title": f"{draw.choice(SHOPS)} no. {draw.randint(100, 999)}",
                "category": category if known else None,
                "department": DEPARTMENT[category] if known else None,
                "price_cents": draw.randrange(900, 19_900, 100),
                "fashion_mnist_test_row": row,
            }
        )
    schema = pa.schema(
        [
            ("product_id", pa.string()),
            ("image_path", pa.string()),
            ("title", pa.string()),
            ("category", pa.string()),
            ("department", pa.string()),
            ("price_cents", pa.int32()),
            ("fashion_mnist_test_row", pa.int32()),
        ]
    )
    pq.write_table(pa.Table.from_pylist(rows, schema), CATALOG / "manifest.parquet", compression="zstd")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--fashion-mnist", type=Path, required=True, help="folder of the four .gz files")
    build(parser.parse_args().fashion_mnist)
