"""A manifest's shards cut into parts that are tagged by hand on several machines, and a record of each part.

`<result>.run/shards/<job>/` has the parts of one job, so that those of two never meet: `job.json` and files of shards in
`parts`, as a run has them, and for each part that is complete `003-of-016.json`.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from tagger.catalog.job_description import job_id_of
from tagger.catalog.manifest import Shard
from tagger.core.files import write_text


def part_of(shards: Sequence[Shard], number: int, count: int) -> Sequence[Shard]:
    """Return the `number`-th of `count` parts, from 1 on; parts are contiguous, whole, and of nearly one size."""
    return shards[len(shards) * (number - 1) // count : len(shards) * number // count]


def part_name(number: int, count: int) -> str:
    """Return the name that the part's files begin with."""
    return f"{number:03d}-of-{count:03d}"


def shards_folder(run_folder: Path) -> Path:
    """Return the folder of all parts that are tagged by hand."""
    return run_folder / "shards"


def job_folder(run_folder: Path, job: Mapping[str, str]) -> Path:
    """Return the folder of one job's parts."""
    return shards_folder(run_folder) / job_id_of(job)[:16]


def write_record(folder: Path, number: int, count: int, record: Mapping[str, Any]) -> None:
    """Write down how a part was tagged, in its job's folder. Raises OSError."""
    text = json.dumps({"shard": number, "of": count, **record}, indent=2)
    write_text(folder / f"{part_name(number, count)}.json", text)


def read_records(run_folder: Path) -> Iterator[tuple[Path, dict[str, Any]]]:
    """Yield the job's folder and the record of each part that is complete. Raises OSError, ValueError."""
    for path in sorted(shards_folder(run_folder).glob("*/*-of-*.json")):
        yield path.parent, json.loads(path.read_text(encoding="utf-8"))
