"""The short forms of crash.py, fault_injection.py and signals.py: nothing torn, lost, doubled or left running."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tagger.catalog.results import FAILPOINTS

FOLDER = Path(__file__).parent


def counts(script: str, *options: object) -> dict[str, float]:
    """Return what a script counted; its stderr says what was wrong."""
    command = [sys.executable, str(FOLDER / script), "--json", *map(str, options)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert found["wrong"] == 0, done.stderr
    return found


def test_a_killed_run_is_finished_by_the_next_with_the_same_bytes():
    found = counts("crash.py", "--kills", 8, "--rows", 130, "--seed", 1)
    assert found["kills"] == 8
    assert found["failpoints"] == len(FAILPOINTS)
    assert found["reader: sightings"] > 0
    assert found["processes left over"] == 0


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="puts a library in front of Linux's C library")
@pytest.mark.skipif(shutil.which("cc") is None, reason="needs a C compiler, cc")
def test_an_io_call_that_fails_costs_one_line_and_nothing_else():
    found = counts("fault_injection.py", "--every", 149)
    assert found["faults"] > 16
    assert found["exit code 75"] + found.get("exit code 0", 0) == found["faults"]


def test_a_signal_ends_a_run_and_its_processes_in_time():
    assert counts("signals.py", "--runs", 4, "--rows", 130, "--seed", 2)["runs"] == 4
