"""What several processes tell a run: only what is made by the same is mixed, and parts must be where the run looks."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from pathlib import Path

import pyarrow as pa
import pytest

from tagger.catalog.manifest import Shard
from tagger.catalog.results import Results
from tagger.core.errors import StoppedError
from tagger.inference.dispatch import Done, Told
from tagger.inference.fingerprints import Description
from tagger.inference.timings import Stages
from tagger.workflows.tagging import CrewTagging

OURS = Description({"name": "clip", "precision": "fp32"}, {"model weights": "a", "version of torch": "2.14"}, "cpu")
SHARDS = [Shard(0, 0, 2), Shard(1, 2, 4)]
SCHEMA = pa.schema([("row", pa.int64())])


class Processes:
    """Tells what it is given."""

    def __init__(self, *told: tuple[int, Told]) -> None:
        self._told, self.offered = told, list[Shard]()

    def __len__(self) -> int:
        return 2

    def offer(self, shards: Sequence[Shard]) -> None:
        self.offered += shards

    def told(self) -> Iterator[tuple[int, Told]]:
        yield from self._told

    def close(self) -> None:
        pass


@pytest.fixture
def results(tmp_path: Path) -> Results:
    """Results with the parts of all shards."""
    made = Results(tmp_path / "out.parquet", tmp_path / "out.run", SCHEMA, {"manifest": "a"})
    for shard in SHARDS:
        made.write(shard, pa.table({"row": [shard.start, shard.start + 1]}, schema=SCHEMA))
    return made


def test_counts_are_those_of_all_processes_and_a_line_is_logged_once(results: Results, caplog):
    record = logging.LogRecord("tagger.x", logging.WARNING, "", 0, "two rows have no image", None, None)
    told = [(0, OURS), (1, OURS), (0, record), (1, record), (0, 2), (1, 2)]
    told += [(0, Done(SHARDS[0], Stages(encoded_images=1, encode=0.5))), (1, Done(SHARDS[1], Stages(encoded_images=2)))]
    crew = Processes(*told)
    tagging, rows = CrewTagging(crew, decoders=1), []
    assert list(tagging.tag(results, SHARDS, rows.append)) == SHARDS
    assert crew.offered == SHARDS
    assert (rows, tagging.stages.encoded_images, tagging.stages.encode, tagging.description) == ([2, 2], 3, 0.5, OURS)
    assert [one.getMessage() for one in caplog.records] == ["two rows have no image"]


@pytest.mark.parametrize(
    ("other", "named"),
    [
        (OURS._replace(depends_on={**OURS.depends_on, "model weights": "b"}), "another model weights"),
        (OURS._replace(depends_on={**OURS.depends_on, "version of torch": "2.10"}), "another version of torch"),
        (OURS._replace(model={**OURS.model, "precision": "bf16"}), "another precision"),
    ],
)
def test_processes_that_differ_are_named_and_nothing_is_mixed(results: Results, other: Description, named: str):
    with pytest.raises(StoppedError, match=f"process 2: .*{named}; nothing was published"):
        list(CrewTagging(Processes((0, OURS), (1, other)), decoders=1).tag(results, SHARDS, print))


def test_parts_that_are_not_there_are_missed(results: Results, tmp_path: Path):
    next((tmp_path / "out.run" / "parts").glob("*-000000.parquet")).unlink()
    crew = Processes((0, OURS), (0, Done(SHARDS[1], Stages())), (0, Done(SHARDS[0], Stages())))
    tagged = CrewTagging(crew, decoders=1).tag(results, SHARDS, print)
    assert next(tagged) == SHARDS[1]
    with pytest.raises(StoppedError, match="expected the part of rows 0 to 1, .* found none; the folder must be one that all"):
        next(tagged)


def test_a_process_joins_only_the_results_of_its_own_job(tmp_path: Path, results: Results):
    job = {"manifest": "a"}
    Results(tmp_path / "out.parquet", tmp_path / "out.run", SCHEMA, job, joined=True)
    with pytest.raises(StoppedError, match="expected the parts of this job, found others: manifest changed"):
        Results(tmp_path / "out.parquet", tmp_path / "out.run", SCHEMA, {"manifest": "b"}, joined=True)
    with pytest.raises(StoppedError, match="found others: its description changed"):
        Results(tmp_path / "b.parquet", tmp_path / "b.run", SCHEMA, job, joined=True)
