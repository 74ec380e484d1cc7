"""The simulated month, all of its thirty nights: a bad night never replaces a good one, and unchanged rows cost no image pass."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

SCRIPT = Path(__file__).with_name("month.py")


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="puts a library in front of Linux's C library")
@pytest.mark.skipif(shutil.which("cc") is None, reason="needs a C compiler, cc")
def test_every_published_night_is_what_a_run_from_nothing_gives_and_a_bad_night_publishes_nothing(tmp_path: Path):
    done = subprocess.run([sys.executable, SCRIPT, "--json", "--out", tmp_path / "month.md"], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert found["wrong"] == []
    nights = found["nights"]
    assert Counter((tuple(night["exit"]), night["published"]) for night in nights) == {
        ((0,), True): 19,
        ((0, 75), True): 1,
        ((75, 0), True): 1,
        ((137, 0), True): 1,
        ((-9, 0), True): 1,
        ((3,), False): 4,
        ((65,), False): 1,
        ((78,), False): 2,
    }
    assert [night["encoded"] for night in nights if night["what"] in ("nothing changed", "a new column", "a new label")] == [
        0
    ] * 5
    assert len((tmp_path / "month.md").read_text().splitlines()) == 2 + 30
