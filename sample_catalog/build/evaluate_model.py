"""Measure the sample model by `tagger run`: the figures of sample_catalog/README.md.

    python sample_catalog/build/evaluate_model.py --fashion-mnist DIR --photos DIR

DIR with Fashion-MNIST's four .gz files (the 10,000 test pictures are used), and DIR with one folder of JPEGs per class,
none of which the model has seen.
"""

import argparse
import io
import tempfile
from pathlib import Path

import fashion_mnist
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

import tagger

MODEL = Path(__file__).parents[1] / "model"
TEMPLATES = ["A photo of a {label}.", "a product photo of a {label}", "a catalogue image of a {label}"]
PHOTO_LABELS = ("dress", "hat", "longsleeve", "outwear", "pants", "shirt", "shoes", "shorts", "skirt", "t-shirt")


def png(pixels: object) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG")
    return buffer.getvalue()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--fashion-mnist", type=Path, required=True)
    parser.add_argument("--photos", type=Path, required=True)
    parser.add_argument("--model", type=Path, default=MODEL)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        images, classes = fashion_mnist.read(options.fashion_mnist, "t10k")
        names = [fashion_mnist.CLASSES[index] for index in classes]
        fashion = Path(folder) / "fashion.parquet"
        pq.write_table(pa.table({"image": [png(image) for image in images], "category": names}), fashion)

        paths = sorted(options.photos.glob("*/*.jpg"))
        photos = Path(folder) / "photos.parquet"
        pq.write_table(
            pa.table(
                {
                    "image": [str(path.relative_to(options.photos)) for path in paths],
                    "category": [path.parent.name for path in paths],
                }
            ),
            photos,
        )

        for title, manifest, labels in (
            ("Fashion-MNIST, ten classes", fashion, fashion_mnist.CLASSES),
            ("photos, ten classes", photos, PHOTO_LABELS),
            ("photos, shirt/dress/shoes", photos, ("shirt", "dress", "shoes")),
        ):
            attribute = {"name": "category", "labels": labels, "templates": TEMPLATES, "truth_column": "category"}
            summary = tagger.run(
                manifest,
                {"attribute": [attribute]},
                output=tagger.Output(overwrite=True),
                model=options.model,
                image_root=options.photos,
            )
            assert summary.evaluation is not None
            reached = summary.evaluation.attributes["category"]
            print(f"| {title} | {reached.labelled_rows} | {reached.accuracy:.1%} | {reached.macro_f1:.3f} |", flush=True)


if __name__ == "__main__":
    main()
