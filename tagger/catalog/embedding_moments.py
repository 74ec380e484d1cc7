"""Keep the moments of a result's embeddings in its run folder, for comparison on the next night."""

from __future__ import annotations

import hashlib
import json
import logging
import os
from pathlib import Path

from tagger.catalog.outputs import run_folder
from tagger.core.files import reason, write_text
from tagger.core.moments import Moments

log = logging.getLogger(__name__)

FILE = "embeddings.json"
TAIL = 1 << 16  # bytes at the end of a result that tell it from others: its metadata, with sizes and extremes of all columns


def keep_moments(result: Path, moments: Moments | None) -> None:
    """Write them beside the result that was just published; None: they are not known. A failure costs no more than a warning."""
    file = run_folder(result) / FILE
    try:
        if moments is None:
            file.unlink(missing_ok=True)
        else:
            write_text(file, json.dumps({"result": _tail_hash(result), "moments": moments.to_json()}))
    except OSError as error:
        log.warning("%s: expected to write it, found: %s; the next night cannot compare embeddings", file, reason(error))


def read_moments(result: Path) -> Moments | None:
    """Return those that were kept for this very result, or None: a run may have ended between the result and this file."""
    try:
        kept = json.loads((run_folder(result) / FILE).read_text(encoding="utf-8"))
        return Moments.from_json(kept["moments"]) if kept["result"] == _tail_hash(result) else None
    except (OSError, ValueError, LookupError, TypeError):
        return None


def _tail_hash(path: Path) -> str:
    with path.open("rb") as file:
        file.seek(-min(TAIL, os.fstat(file.fileno()).st_size), os.SEEK_END)
        return hashlib.sha256(file.read()).hexdigest()
