"""A decoding process that dies costs the image that killed it, and nothing else."""

from __future__ import annotations

import sys
from pathlib import Path

import pyarrow.parquet as pq

sys.path.insert(0, str(Path(__file__).parent))

from dying_workers import disturbed_run, tag, write_manifest


def test_workers_killed_from_outside_and_by_images_cost_only_those_images(tmp_path: Path):
    killed, outcomes, wrong = disturbed_run(tmp_path, rows=1200, crashes=3, kills=3)
    assert killed == 3
    assert outcomes.total() == 1200
    assert wrong == 0


def test_every_way_to_fail_has_its_code(tmp_path: Path):
    failures = {3: "segfault", 4: "kill", 17: "hang", 18: "memory", 29: "exit"}
    write_manifest(tmp_path / "images.parquet", 30, failures)
    # Named: auto would first be tried, on a CPU with bf16, and the trial meets the same images.
    run = tag(tmp_path / "images.parquet", "--workers", "1", "--image-timeout", "2", "--precision", "fp32")
    output, errors = run.communicate()
    assert run.returncode == 0, errors
    reasons = pq.read_table(tmp_path / "images.tagged.parquet")["tag_reason"].to_pylist()
    assert {row: reason for row, reason in enumerate(reasons) if reason} == {
        3: "crashed: the process that decoded it was ended by SIGSEGV",
        4: "crashed: the process that decoded it was ended by SIGKILL",
        17: "timeout: took longer than 2 s",
        18: "out-of-memory: decoding it takes more memory than one image may use",
        29: "crashed: the process that decoded it exited with status 3",
    }
    assert "5 errors (3 crashed, 1 timeout, 1 out-of-memory)" in output
    assert len([line for line in errors.splitlines() if "a decoding process" in line]) == 1
    assert "Traceback" not in errors
