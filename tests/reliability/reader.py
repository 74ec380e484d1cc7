"""Read the output path of runs all the time, as somebody would who cannot know when a run ends, and count what is seen.

    python tests/reliability/reader.py OUTPUT REFERENCE

Ends at SIGTERM, or with the process that started it, and prints its counts as JSON. It is a process of its own and not a fork,
because the locks of pyarrow's threads do not survive a fork.
"""

from __future__ import annotations

import io
import json
import os
import signal
import sys
import time
from contextlib import suppress
from pathlib import Path

import pyarrow.parquet as pq


def main() -> None:
    output, reference = Path(sys.argv[1]), Path(sys.argv[2]).read_bytes()
    rows = pq.read_table(io.BytesIO(reference)).num_rows
    harness = os.getppid()
    ended: list[int] = []
    signal.signal(signal.SIGTERM, lambda *_: ended.append(1))
    counts = {"polls": 0, "sightings": 0, "results": 0, "wrong": 0}
    known = 0
    while not ended and os.getppid() == harness:
        counts["polls"] += 1
        with suppress(FileNotFoundError), output.open("rb") as file:
            found, identity = file.read(), os.fstat(file.fileno()).st_ino
            counts["sightings"] += 1
            fine = found == reference
            if identity != known:  # another file than last time: read it as its users do
                known = identity
                counts["results"] += 1
                fine = fine and pq.read_table(io.BytesIO(found)).num_rows == rows
            counts["wrong"] += not fine
        time.sleep(0.01)
    print(json.dumps(counts))


if __name__ == "__main__":
    main()
