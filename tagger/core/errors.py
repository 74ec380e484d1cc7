"""Define every error that a user can cause, and its exit code.

    TaggerError             1   unexpected
    ├── UsageError          2   the command cannot mean what it says
    ├── GateError           3   the results are not good enough, and written aside
    ├── ManifestError      65   the manifest, or a result file, is not what is expected
    ├── ModelError         69   the model cannot be had
    ├── StoppedError       75   stopped before the end; run again
    ├── ConfigError        78   tagger.toml or the labels are wrong
    └── ImageError          -   one image; costs its row the tags and never ends a run

A message is one line: what was expected, what was found, where, and what to do about it. `str` of an error is fit to be
printed: names in it are escaped, and the secrets of URLs left out. Several mistakes in a tagger.toml are one error with a line
for each.
"""

from __future__ import annotations

from typing import Any

from tagger.core.text import one_line


class TaggerError(Exception):
    """The base of all errors; its arguments are the lines of its message."""

    exit_code = 1

    def __str__(self) -> str:
        return "\n".join(one_line(str(line)) for line in self.args)


class UsageError(TaggerError):
    exit_code = 2


class GateError(TaggerError):
    """Results that failed a gate and are written aside; the message has a line for each failed gate.

    `summary` is the run's RunSummary, a type that this file, below all others, must not import.
    """

    exit_code = 3

    def __init__(self, *lines: str, summary: Any) -> None:
        super().__init__(*lines)
        self.summary = summary


class ManifestError(TaggerError):
    exit_code = 65


class ModelError(TaggerError):
    exit_code = 69


class StoppedError(TaggerError):
    exit_code = 75


class ConfigError(TaggerError):
    exit_code = 78


class ImageError(TaggerError):
    """An image that could not be tagged; `code` is one of those in images/sources.py and images/decode.py."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(code, message)
        self.code = code
        self.message = message

    def __str__(self) -> str:
        return one_line(f"{self.code}: {self.message}")
