"""Sketches beside their tags."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa

from tagger.catalog.manifest import Shard
from tagger.catalog.results import Results
from tagger.catalog.sketch_files import read_sketches, write_sketches

SKETCHES = np.arange(12, dtype=np.float16).reshape(3, 4)


def test_what_was_written_is_read(tmp_path: Path) -> None:
    path = tmp_path / "sketches.npy"
    write_sketches(path, SKETCHES)
    assert np.array_equal(read_sketches(path, 3), SKETCHES)
    assert [file.name for file in tmp_path.iterdir()] == ["sketches.npy"]


def test_sketches_of_other_rows_or_damaged_ones_are_none(tmp_path: Path) -> None:
    path = tmp_path / "sketches.npy"
    assert read_sketches(path, 3) is None
    write_sketches(path, SKETCHES)
    assert read_sketches(path, 4) is None
    path.write_bytes(path.read_bytes()[:-1])
    assert read_sketches(path, 3) is None
    path.write_bytes(b"")
    assert read_sketches(path, 3) is None


def test_a_part_has_its_own_or_none(tmp_path: Path) -> None:
    schema = pa.schema([pa.field("row", pa.int64())])
    shards = [Shard(0, 0, 3), Shard(1, 3, 5)]
    results = Results(tmp_path / "out.parquet", tmp_path, schema, {"job": "a"})
    assert results.sketches(shards[0]) is None
    results.write(shards[0], pa.table({"row": [0, 1, 2]}), SKETCHES)
    results.write(shards[1], pa.table({"row": [3, 4]}))
    assert np.array_equal(results.sketches(shards[0]), SKETCHES)
    assert results.sketches(shards[1]) is None
