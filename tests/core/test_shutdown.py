"""Stopping: a signal is not forgotten, whatever becomes of its exception."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

import tagger
from tagger.core import shutdown

LOST = """
import os, signal
from tagger.core import shutdown

class Destructor:
    def __del__(self):
        os.kill(os.getpid(), signal.SIGTERM)
        for _ in range(1000):  # the handler runs in here, and Python drops what it raises
            pass

signal.signal(signal.SIGTERM, shutdown.on_signal)
Destructor()
print("went on", flush=True)
{then}
"""


def end(then: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-c", LOST.format(then=then)], capture_output=True, text=True, check=False)


def test_a_stop_that_a_destructor_swallowed_is_found_by_the_next_check():
    done = end("try: shutdown.check()\nexcept KeyboardInterrupt: print('stopped')")
    assert done.stdout == "went on\nstopped\n"


def test_a_second_signal_ends_the_process_at_once():
    assert end("os.kill(os.getpid(), signal.SIGINT); print('still here')").returncode == 75


def test_a_stop_that_takes_too_long_ends_the_process():
    assert end("signal.setitimer(signal.ITIMER_REAL, 0.1); import time; time.sleep(60)").returncode == 75


def test_a_signal_while_the_results_appear_comes_too_late():
    script = "from tagger.core import shutdown; import os, signal; signal.signal(signal.SIGINT, shutdown.on_signal); "
    script += "shutdown.publishing(); os.kill(os.getpid(), signal.SIGINT); print('complete')"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, "complete\n", "")


def test_a_run_that_was_asked_to_stop_publishes_nothing(small_clip, pictures, write_manifest, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(shutdown, "requested", True)
    manifest: Path = write_manifest(["0000.png"])
    with pytest.raises(KeyboardInterrupt):
        tagger.run(manifest, machine=tagger.Machine(workers=0), labels=["shirt", "dress"], model=small_clip, image_root=pictures)
    assert not manifest.with_name("manifest.tagged.parquet").exists()


def test_a_stop_waits_for_the_end_of_a_step_that_is_held():
    script = """
import os, signal
from tagger.core import shutdown

signal.signal(signal.SIGTERM, shutdown.on_signal)
try:
    with shutdown.held():
        os.kill(os.getpid(), signal.SIGTERM)
        print("held")
    print("went on")
except KeyboardInterrupt:
    print("stopped")
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, "held\nstopped\n", "")
