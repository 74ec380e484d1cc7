"""One run at a time on a result."""

from __future__ import annotations

import os
from pathlib import Path

import filelock
import pytest

from tagger.core.errors import StoppedError
from tagger.core.lock import hold


def test_a_second_run_is_told_who_is_there_and_may_come_again(tmp_path: Path):
    with hold(tmp_path):
        with pytest.raises(StoppedError, match=f"found process {os.getpid()} on .*; run again when it has ended"), hold(tmp_path):
            pass
        with pytest.raises(StoppedError), hold(tmp_path):  # the one that was refused has released nothing
            pass
    with hold(tmp_path):
        pass


def test_a_timeout_of_another_lock_within_the_run_is_not_taken_for_another_run(tmp_path: Path):
    with pytest.raises(filelock.Timeout, match=r"cache\.lock"), hold(tmp_path):
        raise filelock.Timeout("cache.lock")
    with hold(tmp_path):
        pass
