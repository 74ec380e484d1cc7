"""One row out for every file in, whatever is in the file, and the good ones are tagged as if they were alone."""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

from hostile_images import hostile_run, write_mutated


def test_mutated_files_cost_only_their_rows(tmp_path: Path):
    outcomes, differing, largest = hostile_run(tmp_path, write_mutated(tmp_path, 300))
    assert outcomes.total() == 300
    assert 0 < outcomes["tagged"] < 300
    assert differing == 0
    assert largest < 4 << 30


def test_hostile_files_cost_only_their_rows(shared_data: Path, tmp_path: Path):
    files = sorted(path for path in (shared_data / "bad-images").resolve().rglob("*") if path.is_file())
    outcomes, differing, _ = hostile_run(tmp_path, files)
    assert outcomes.total() == len(files) >= 1200
    assert differing == 0
