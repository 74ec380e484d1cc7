"""Start real runs of the command line in milliseconds, as forks of a process that has imported everything already.

A run has a session of its own, so that whatever it started can be found. Linux only (/proc).
"""

from __future__ import annotations

import json
import multiprocessing.util
import os
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path

os.environ["OMP_NUM_THREADS"] = "1"  # before torch is imported: a fork would wait for OpenMP's threads, which it does not have

SAMPLE = Path(__file__).parents[2] / "sample_catalog"
OUTPUT = "out.parquet"


def prepare(shard_rows: int = 64) -> None:
    """Import what a run imports, and make shards small: with 64 rows, the sample catalogue has ten of them."""
    import sklearn.metrics
    import transformers
    from PIL import Image

    import tagger.catalog.manifest
    import tagger.cli.main
    import tagger.encoders.clip
    import tagger.images.resilient_loader
    import tagger.inference.load
    import tagger.workflows.run

    Image.init()
    assert sklearn.metrics.f1_score
    assert transformers.CLIPModel  # imported when it is first named
    assert tagger.encoders.clip.ClipEncoder
    assert tagger.cli.main.main
    assert tagger.workflows.run.run
    assert tagger.inference.load.open_engine
    assert tagger.images.resilient_loader.load_images
    tagger.catalog.manifest.MAX_SHARD_ROWS = shard_rows


def load_once(at_once: int | None = None) -> Callable[[], None]:
    """Load the sample model here; return what lets a run use it, for runs in which loading is not the point.

    Such a run also does without the check of its manifest by another process, which would take as long again.

    at_once: images that the encoder takes; few save time where there are few.
    """
    import tagger.catalog.sandbox
    import tagger.inference.job
    import tagger.inference.predictors
    import tagger.settings.load
    import tagger.workflows.plan
    from tagger.catalog.held_files import HeldFiles
    from tagger.catalog.manifest_files import find_files
    from tagger.settings.options import Machine

    settings = tagger.settings.load.load_settings(str(SAMPLE / "manifest.parquet"))
    model = settings.model
    loaded = tagger.inference.predictors.load_predictor(model, Machine(workers=0), settings.attributes)
    if at_once is not None:
        predictor, reference = loaded.predictor, loaded.reference
        reference = reference and reference.encoding_at_once(at_once)
        loaded = replace(loaded, predictor=predictor.encoding_at_once(at_once), reference=reference)

    def identities(name: str | Path) -> list[list[int]]:
        return [list(one) for one in HeldFiles(find_files(str(name)).files).identities]

    def share() -> None:
        tagger.inference.predictors.load_predictor = lambda *_: loaded
        tagger.catalog.sandbox.start_reading = lambda name: None
        tagger.workflows.plan.read_elsewhere = tagger.inference.job.read_elsewhere = identities

    return share


def arguments(*more: object, manifest: Path = SAMPLE / "manifest.parquet", cached: bool = False) -> list[str]:
    """Tag the sample catalogue, or some of it, into OUTPUT of the folder where the run is started."""
    settings = ["--config", str(SAMPLE / "tagger.toml"), "--quiet", "--overwrite", "--no-report"]
    settings += ["--cache", "cache"] if cached else ["--no-cache"]
    return ["run", str(manifest), "--output", OUTPUT, *settings, *map(str, more)]


def start(
    folder: Path,
    command: list[str],
    environment: Mapping[str, str] | None = None,
    before: Callable[[], None] = lambda: None,
    after: Callable[[], None] = lambda: None,
) -> int:
    """Start a run in `folder`, with its stdout and stderr in files there; return its process and session id.

    `before` and `after` are called in the new process, around the run.
    """
    if pid := os.fork():
        return pid
    code = 70
    try:
        os.setsid()
        os.chdir(folder)
        os.environ.update(environment or {})
        for handle, name in ((1, "stdout"), (2, "stderr")):
            os.dup2(os.open(name, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o644), handle)
        sys.argv = ["tagger", *command]
        from tagger.cli.main import main

        before()
        try:
            main()
            code = 0
        except SystemExit as end:
            code = int(end.code or 0)
        multiprocessing.util._exit_function()  # not atexit: what the parent registered there is the parent's
        after()
        sys.stdout.flush()
    finally:
        os._exit(code)


def show(counts: Mapping[str, object], as_json: bool) -> None:
    """Print what a script counted, as JSON or as rows of a Markdown table."""
    if as_json:
        print(json.dumps(counts))
        return
    for key, value in counts.items():
        print(f"| {key} | {value} |")


def wait(pid: int) -> int:
    """Wait for a run; return its exit code, negative for the signal that ended it."""
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def has_ended(pid: int) -> bool:
    """Return whether the run has ended; it can still be waited for."""
    return os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None


def left_over(session: int, seconds: float) -> list[int]:
    """Return the processes that this run started and that still live after `seconds`; return as soon as there are none."""
    deadline = time.monotonic() + seconds
    while (found := _members(session)) and time.monotonic() < deadline:
        time.sleep(0.05)
    return found


def _members(session: int) -> list[int]:
    found = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            state, _, _, of = stat.read_text().rpartition(")")[2].split()[:4]
        except (FileNotFoundError, ProcessLookupError):
            continue
        if int(of) == session and state != "Z":
            found.append(int(stat.parent.name))
    return found
