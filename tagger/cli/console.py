"""What the library has to say, for a terminal: one line each, on stderr."""

from __future__ import annotations

import logging

from tagger.core.text import one_line


class _OneLine(logging.Formatter):
    """No name in a catalogue can make up a line of the log, or drive the terminal that shows it."""

    def format(self, record: logging.LogRecord) -> str:
        return one_line(super().format(record))


def log_to_stderr(level: int) -> None:
    """Let people see what the library has to say, from this level on."""
    handler = logging.StreamHandler()
    handler.setLevel(level)
    handler.setFormatter(_OneLine("tagger: %(message)s"))
    logger = logging.getLogger("tagger")
    logger.handlers = [handler]
    logger.setLevel(logging.INFO)  # for the run's own log (journal.py)
