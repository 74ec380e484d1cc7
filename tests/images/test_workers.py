"""How many processes decode, and what they say where they cannot start."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tagger.images.workers import choose_workers, fit_shared_memory


@pytest.mark.parametrize("device", ["cpu", "cuda", "mps"])
def test_no_image_is_decoded_in_the_main_process_unless_asked_for(device: str):
    assert choose_workers(device) >= 1


def test_an_accelerator_gets_at_least_as_many_as_a_cpu():
    assert choose_workers("cuda") >= choose_workers("cpu")


def test_a_containers_quota_is_known(monkeypatch: pytest.MonkeyPatch):
    """Joblib reads it from the control group, or takes what the operator says instead; the affinity knows neither."""
    monkeypatch.setenv("LOKY_MAX_CPU_COUNT", "1")
    assert (choose_workers("cuda"), choose_workers("cpu")) == (1, 2)


def test_enough_shared_memory_changes_nothing(tmp_path: Path, caplog: pytest.LogCaptureFixture):
    assert fit_shared_memory(16, 1, tmp_path) == 16
    assert fit_shared_memory(16, 1 << 60, tmp_path / "no-such-folder") == 16
    assert fit_shared_memory(0, 1 << 60, tmp_path) == 0
    assert caplog.text == ""


def test_little_shared_memory_is_said_and_answered_by_fewer_workers(tmp_path: Path, caplog: pytest.LogCaptureFixture):
    assert fit_shared_memory(2, 1 << 60, tmp_path) == 0
    assert len(caplog.messages) == 1
    assert "using 0; images are decoded in the main process, which a hostile one may end" in caplog.text


@pytest.mark.parametrize(("made_by", "said"), [("(open, ('no-such-queue',))", False), ("(divmod, (1, 0))", True)])
def test_a_worker_that_finds_the_run_gone_says_nothing(tmp_path: Path, made_by: str, said: bool):
    """A run that is stopped while its workers start has removed the queues that they look for; other errors are shown."""
    script = tmp_path / "script.py"
    script.write_text(
        f"""
import multiprocessing
from tagger.images.workers import start_early, without_main

class Queue:
    def __reduce__(self):
        return {made_by}

start_early()
with without_main():
    worker = multiprocessing.get_context("forkserver").Process(target=print, args=(Queue(),))
    worker.start()
worker.join()
print(worker.exitcode)
"""
    )
    done = subprocess.run([sys.executable, script], capture_output=True, text=True, check=True)
    assert done.stdout == "1\n"
    assert ("ZeroDivisionError" in done.stderr) == said
    assert said or done.stderr == ""


def test_a_stop_waits_until_all_workers_have_started(tmp_path: Path):
    """Torch's iterator over half of its workers has a destructor that fails, and says so in a traceback."""
    script = tmp_path / "script.py"
    script.write_text(
        """
import multiprocessing.process, os, signal
from tagger.core import shutdown
from tagger.core.types import ImagePolicy
from tagger.images.loader import ImageLoader
from tagger.images.reading import Reading

started = []
start = multiprocessing.process.BaseProcess.start

def stop_after_the_first(process):
    start(process)
    started.append(process)
    if len(started) == 1:
        os.kill(os.getpid(), signal.SIGTERM)

multiprocessing.process.BaseProcess.start = stop_after_the_first
signal.signal(signal.SIGTERM, shutdown.on_signal)
try:
    list(ImageLoader([[]] * 4, Reading(policy=ImagePolicy(roots=()), preprocessings={}, workers=2)))
except KeyboardInterrupt:
    print(len(started), "started")
for process in started:
    process.join()
"""
    )
    done = subprocess.run([sys.executable, script], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, "2 started\n", "")
