"""Read Fashion-MNIST's own files (IDX, gzip), as Debian's dataset-fashion-mnist and its GitHub page ship them."""

import gzip
from pathlib import Path

import numpy as np

CLASSES = ("t-shirt", "trousers", "pullover", "dress", "coat", "sandal", "shirt", "sneaker", "bag", "ankle boot")


def read(folder: Path, split: str) -> tuple[np.ndarray, np.ndarray]:
    """Return images uint8 (N, 28, 28) and labels uint8 (N,) of `split`, "train" or "t10k"."""
    with gzip.open(folder / f"{split}-images-idx3-ubyte.gz") as file:
        images = np.frombuffer(file.read(), np.uint8, offset=16).reshape(-1, 28, 28)
    with gzip.open(folder / f"{split}-labels-idx1-ubyte.gz") as file:
        labels = np.frombuffer(file.read(), np.uint8, offset=8)
    return images, labels
