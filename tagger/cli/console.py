"""What the library logs, for a terminal: one line each, on stderr."""

from __future__ import annotations

import logging

from tagger.core.text import one_line


class _OneLine(logging.Formatter):
    """Format a record as one printable line, so that no name in a catalogue makes up a line or drives the terminal."""

    def format(self, record: logging.LogRecord) -> str:
        return one_line(super().format(record))


def log_to_stderr(level: int) -> None:
    """Show on stderr what the library logs, from this level on."""
    handler = logging.StreamHandler()
    handler.setLevel(level)
    handler.setFormatter(_OneLine("tagger: %(message)s"))
    logger = logging.getLogger("tagger")
    logger.handlers = [handler]
    logger.setLevel(logging.INFO)  # for the run's own log (reports/event_log.py)
    # Where the home folder cannot be written, as in many a nightly job, it remarks on that.
    logging.getLogger("matplotlib").setLevel(logging.ERROR)
