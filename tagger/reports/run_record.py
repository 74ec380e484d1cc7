"""Record a run for others to read, however it ends: its lines in log.jsonl, and metrics.prom."""

from __future__ import annotations

import logging
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

from tagger.catalog.outputs import run_folder
from tagger.core import shutdown
from tagger.core.files import reason
from tagger.reports.event_log import Journal
from tagger.reports.prometheus import read_last_success, write_metrics
from tagger.reports.summary import RunSummary

log = logging.getLogger(__name__)


class Record:
    """One run: its id, when it started, and what it notes here on its way, for the end of the log and for the metrics.

    rows: those to tag, None until they are known. encoded_images: None until the rows are known. published: whether the results
    are at the output. summary: None until the results are written, published or not.
    """

    def __init__(self, output: Path | None) -> None:
        self.run_id = uuid.uuid4().hex
        self.started = datetime.now(UTC).isoformat(timespec="seconds")
        self.journal = Journal(run_folder(output) if output else None, self.run_id)
        self.rows: int | None = None
        self.encoded_images: int | None = None
        self.published = False
        self.summary: RunSummary | None = None


@contextmanager
def recorded(manifest: str, output: Path | None, previous: Path | None) -> Iterator[Record]:
    """Record a run that tags `manifest`, in the run folder of `output`; nowhere where this is None.

    previous: the earlier result that its labels are compared with, whose time of success counts as the last one where this run
    fails.
    """
    began, code = time.monotonic(), 0
    record = Record(output)
    logger = logging.getLogger("tagger")
    logger.addHandler(record.journal)
    message = f"tagger {version('tagger')}: {manifest}"
    record.journal.event("start", message, version=version("tagger"), manifest=manifest, output=str(output))
    message = "done"
    try:
        yield record
    except BaseException as error:
        code, message = shutdown.exit_code(error), "; ".join(str(error).splitlines()) or type(error).__name__
        raise
    finally:
        if output is not None:
            _write_metrics(code, output, previous, record.summary)
        record.journal.event(
            "end",
            message,
            logging.ERROR if code else logging.INFO,
            exit_code=code,
            seconds=round(time.monotonic() - began, 3),
            rows=record.rows,
            encoded_images=record.encoded_images,
            published=record.published,
        )
        logger.removeHandler(record.journal)
        record.journal.close()


def _write_metrics(code: int, output: Path, previous: Path | None, summary: RunSummary | None) -> None:
    now, folder = time.time(), run_folder(output)
    last_success = now
    if code:
        last_success = max(map(read_last_success, {folder, *([run_folder(previous)] if previous else [])}))
    try:
        write_metrics(folder, code, now, last_success, summary)
    except OSError as error:
        if not code:  # else the run has something to say that matters more
            log.warning("%s: expected to write metrics.prom, found: %s; the results are complete", folder, reason(error))
