"""What the parts of a result depend on, in a file beside them: parts of one job are never taken for another's."""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Mapping
from pathlib import Path

from tagger.core.files import write_text

log = logging.getLogger(__name__)

JOB = "job.json"


def _text_of(job: Mapping[str, str]) -> str:
    return json.dumps(job, sort_keys=True, indent=2)


def describe_job(parts: Path, job: Mapping[str, str]) -> None:
    """Say beside parts which job they are of. Raises OSError."""
    write_text(parts / JOB, _text_of(job))


def job_id_of(job: Mapping[str, str]) -> str:
    """Return the job's id: the hash of what its results depend on."""
    return hashlib.sha256(_text_of(job).encode()).hexdigest()


def continues(output: Path | str, description: Path, job: Mapping[str, str]) -> bool:
    """Tell whether the described job is this one; log what changed where it is not."""
    changed = changes(read_description(description), job)
    if changed:
        log.warning("%s: starting over, not continuing an interrupted run: %s changed", output, ", ".join(changed))
    return not changed


def changes(earlier: Mapping[str, str] | None, job: Mapping[str, str]) -> list[str]:
    """Return the names of the values in which two jobs differ; an unknown one differs in all."""
    if earlier is None:
        return ["its description"]
    return [name for name in sorted({*earlier, *job}) if earlier.get(name) != job.get(name)]


def read_description(description: Path) -> dict[str, str] | None:
    """Read which job the parts beside this file are of; None where it cannot be read."""
    try:
        return dict(json.loads(description.read_text(encoding="utf-8")).items())
    except (OSError, ValueError, AttributeError):
        return None
