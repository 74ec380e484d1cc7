"""A manifest of few rows and several shards: its rows are wide."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

WIDE = 32 << 20 >> 6  # so that a shard has 64 rows (catalog/manifest.py)


def write_many_shards(path: Path, images: Sequence[str], **columns: Sequence[object]) -> Path:
    """Write these images with a column of zeros, a shard for each 64 of them."""
    rows = pa.table({"image_path": images, **columns, "padding": pa.array([bytes(WIDE)] * len(images), pa.binary())})
    pq.write_table(rows, path, compression="zstd", use_dictionary=False, row_group_size=64)
    return path
