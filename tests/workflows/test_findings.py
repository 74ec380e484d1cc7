"""What a finished run shows beside its figures."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow.parquet as pq

from tagger.catalog.object_storage import Workspace
from tagger.catalog.outputs import run_folder
from tagger.catalog.sketch_files import SKETCHES, write_sketches
from tagger.workflows.findings import largest_groups, picture_groups, suspicious_truth
from tagger.workflows.finished_run import open_finished
from tests.helpers.results import write_result

KIND = {"kind": ("shirt", "dress", "shoes")}


def test_the_same_pictures_are_groups_the_largest_first(tmp_path: Path):
    result = write_result(tmp_path / "r.parquet", 60, KIND, ["a.png"], error_share=0)
    sketches = np.random.default_rng(0).standard_normal((60, 32)).astype(np.float16)
    sketches[[7, 3]], sketches[[10, 20, 30]] = sketches[3], sketches[10]
    with Workspace() as space:
        run = open_finished(result, space)
        assert picture_groups(run, 60) is None
        write_sketches(run_folder(result) / SKETCHES, sketches)
        groups = picture_groups(run, 60)
        assert groups is not None
        assert [rows.tolist() for rows in largest_groups(groups, 5)] == [[10, 20, 30], [3, 7]]
        assert picture_groups(run, 61) is None


def test_truth_that_looks_wrong_is_found_unless_a_person_has_said_so(tmp_path: Path):
    found = []
    for name, columns in (("old", {}), ("reviewed", {"kind_by": ["Ann"]})):
        result = write_result(tmp_path / f"{name}.parquet", 400, KIND, ["a.png"], error_share=0, columns=columns)
        with Workspace() as space, pq.ParquetFile(result) as file:
            run = open_finished(result, space)
            found.append(suspicious_truth(run, file, run.attributes[0]).tolist())
    rows = pq.read_table(result).to_pylist()
    assert found[0]
    assert all(rows[row]["kind"] not in (None, rows[row]["kind_label"]) for row in found[0])
    assert found[1] == []
