"""What ends a run is told as what it is: a full disk, or a fault of ours, before or after the results are there."""

from __future__ import annotations

import errno
import logging
import os
import sys
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tagger.cli.main import main
from tagger.core.errors import StoppedError
from tagger.core.files import writing


@pytest.fixture
def tag(small_clip: Path, pictures: Path, write_manifest, monkeypatch: pytest.MonkeyPatch, capsys):
    """Run the command line on one row; return its exit code and its last line on stderr."""
    manifest = write_manifest(["0000.png"])
    monkeypatch.setattr(logging.getLogger("tagger"), "handlers", [])  # the command line's own writes to this test's stderr
    options = [
        "--labels",
        "shirt,dress",
        "--workers",
        "0",
        "--overwrite",
        "--no-report",
        "--model",
        small_clip,
        "--image-root",
        pictures,
    ]

    def run() -> tuple[Any, str]:
        monkeypatch.setattr(sys, "argv", ["tagger", "run", str(manifest), *map(str, options)])
        with pytest.raises(SystemExit) as ended:
            main()
        return ended.value.code, capsys.readouterr().err.splitlines()[-1]

    return run


def failing(error: Exception):
    def fail(*_: object, **__: object) -> None:
        raise error

    return fail


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)), "OSError: [Errno 28] No space left on device"),
        (pa.ArrowInvalid("offsets out of order"), "ArrowInvalid: offsets out of order"),
    ],
)
def test_a_fault_of_ours_is_not_answered_with_the_disk(
    tag, error: Exception, said: str, monkeypatch: pytest.MonkeyPatch, tmp_path
):
    monkeypatch.setattr("tagger.inference.local_engine.tag_columns", failing(error))
    code, line = tag()
    assert code == 1
    assert line.startswith(f"tagger: unexpected {said}; nothing was published; this is a fault of tagger: ")
    assert not (tmp_path / "manifest.tagged.parquet").exists()


@pytest.mark.parametrize(
    ("where", "error", "code", "before"),
    [
        ("tagger.workflows.run.write_summary", TypeError("no summary"), 1, "tagger: unexpected TypeError: no summary; "),
        ("tagger.reports.summary.RunSummary.to_text", ValueError("no text"), 1, "tagger: unexpected ValueError: no text; "),
        ("tagger.reports.run_record.write_metrics", KeyError("rows"), 1, "tagger: unexpected KeyError: 'rows'; "),
        ("tagger.workflows.run.write_summary", KeyboardInterrupt(), 75, "tagger: stopped; "),
    ],
)
def test_what_comes_after_the_results_does_not_deny_them(
    tag, where: str, error: Exception, code: int, before: str, monkeypatch: pytest.MonkeyPatch, tmp_path
):
    monkeypatch.setattr(where, failing(error))
    found, line = tag()
    output = tmp_path / "manifest.tagged.parquet"
    assert (found, line.startswith(f"{before}the results are complete at {output}")) == (code, True)
    assert pq.read_table(output).num_rows == 1


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS])
def test_what_the_system_has_against_writing_is_one_line(number: int):
    with pytest.raises(StoppedError) as caught, writing("out.parquet"):
        raise OSError(number, os.strerror(number), "out.run/parts/1.tmp")
    assert str(caught.value) == (
        f"out.parquet: expected to write results, found: {os.strerror(number)}: out.run/parts/1.tmp; nothing was published; free "
        "the disk, or correct the permissions of its folder, and run again to continue"
    )
