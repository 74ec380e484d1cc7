"""Simulate a catalogue that many GPUs tag: what the process that plans, joins, judges and reports takes of the time.

python tests/benchmarks/scale.py --rows 10000000 --workers 1 4 8 16 64

The manifest names a few hundred real photos in turn, each row with a truth. Everything is what `tagger run` does, except for
the encoder: workers that are not there take a constant time for an image (--speed), and then leave a real part, with sketches
of embeddings, that was written before. Writing parts is the workers' own work, timed apart. "Encoding" is rows / (workers *
speed), the least that a run could take; what it takes beyond that is the driver's.
"""

from __future__ import annotations

import argparse
import heapq
import json
import os
import resource
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from common import DATA, LABELS, last_json, machine, print_table
from make_model import SAMPLE

from tagger.catalog.manifest import Shard
from tagger.catalog.object_storage import Workspace
from tagger.catalog.results import Results
from tagger.catalog.sketch_files import SUFFIX
from tagger.catalog.tags import tag_columns
from tagger.core.types import Decision
from tagger.inference.dispatch import Dispatcher, Done, Told
from tagger.inference.fingerprints import Description, describe, result_schema_of
from tagger.inference.job import open_job
from tagger.inference.load import open_engine
from tagger.inference.timings import Stages
from tagger.settings.load import load_settings
from tagger.settings.options import Machine, Output
from tagger.workflows import report as reports
from tagger.workflows import run as runs
from tagger.workflows.plan import Plan, make_plan
from tagger.workflows.tagging import CrewTagging

GROUP = 1 << 16  # rows of a row group of the manifest
SKETCH = 32  # numbers of an image's sketch
SETTINGS = {"labels": list(LABELS), "model": str(SAMPLE), "cache": False}


def write_manifest(path: Path, rows: int, photos: Sequence[Path]) -> None:
    """Write ids, paths of the photos in turn, and a truth for every row."""
    paths, labels = pa.array([str(photo) for photo in photos]), pa.array(LABELS)
    schema = pa.schema([("id", pa.int64()), ("image_path", pa.string()), ("category", pa.string())])
    with pq.ParquetWriter(path, schema, compression="zstd") as writer:
        for start in range(0, rows, GROUP):
            numbers = np.arange(start, min(start + GROUP, rows))
            columns = [
                pa.array(numbers),
                paths.take(pa.array(numbers % len(paths))),
                labels.take(pa.array(numbers % len(labels))),
            ]
            writer.write_table(pa.table(columns, schema=schema))


def planned(manifest: Path, space: Workspace) -> Plan:
    settings = load_settings(str(manifest), None, **SETTINGS, image_root=Path("/"))
    return make_plan(open_job(str(manifest), settings, space), space, Output())


def tags(first: int, count: int) -> list[pa.Array]:
    """Return the tag columns of these rows, nine of ten with the right label, each with five."""
    rng = np.random.default_rng(first)
    best = (np.arange(first, first + count) + (rng.random(count) < 0.1)) % len(LABELS)
    top = (best[:, None] + np.arange(5)) % len(LABELS)
    shares = np.sort(rng.dirichlet(np.full(5, 0.3), count).astype(np.float32))[:, ::-1]
    source = np.full(count, "clip")
    decision = Decision(top=top, confidence=np.ascontiguousarray(shares), source=source, review=(None,) * count)
    return tag_columns(count, np.arange(count), {"category": (LABELS, decision)}, {}, {})


def write_parts(manifest: Path, folder: Path, description: Description, share: slice) -> float:
    """Write a share of the parts as a worker does; return the seconds of that, without reading the manifest."""
    seconds = 0.0
    with Workspace() as space:
        plan = planned(manifest, space)
        schema = result_schema_of(plan.job, description.model)
        results = Results(folder / "result.parquet", folder, schema, description.depends_on, joined=True)
        for shard, table in plan.job.manifest.read(list(plan.job.manifest.shards())[share]):
            columns = [*table.columns, *tags(shard.start, len(table))]
            points = np.random.default_rng(shard.number).standard_normal((len(table), SKETCH)).astype(np.float16)
            began = time.perf_counter()
            results.write(shard, pa.table(columns, schema=schema), points)
            seconds += time.perf_counter() - began
    return seconds


def prepare(manifest: Path, folder: Path) -> tuple[Description, float]:
    """Write every part once, with all cores; return what they are made by, and the seconds of one core that this took."""
    with Workspace() as space:
        plan = planned(manifest, space)
        with open_engine(plan.job, Machine(workers=0), rows=plan.rows) as engine:
            description = describe(plan.job, plan.rows, engine.predictor, engine.hybrid, None)
        Results(folder / "result.parquet", folder, result_schema_of(plan.job, description.model), description.depends_on)
        shards, cores = len(list(plan.job.manifest.shards())), len(os.sched_getaffinity(0))
    shares = [slice(shards * core // cores, shards * (core + 1) // cores) for core in range(cores)]
    with ProcessPoolExecutor(cores) as pool:
        return description, sum(pool.map(partial(write_parts, manifest, folder, description), shares))


class StandIns:
    """A crew whose workers take a constant time for an image, and then leave the part that was written before."""

    def __init__(self, count: int, speed: float, parts: Path, target: Path, description: Description) -> None:
        self._count, self._speed, self._description = count, speed, description
        self._parts, self._target, self._dispatcher = parts, target, Dispatcher()
        self.last = 0.0  # when the last part was there, by time.perf_counter

    def __len__(self) -> int:
        return self._count

    def offer(self, shards: Sequence[Shard]) -> None:
        self._dispatcher.offer(shards)

    def told(self) -> Iterator[tuple[int, Told]]:
        yield 0, self._description
        names = {int(part.stem.rpartition("-")[2]): part.stem for part in self._parts.glob("*.parquet")}
        began = time.perf_counter()
        busy: list[tuple[float, int, Shard]] = []
        for worker in range(self._count):
            self._begin(busy, worker, began)
        while busy:
            end, worker, shard = heapq.heappop(busy)
            time.sleep(max(end - time.perf_counter(), 0.0))
            for suffix in (SUFFIX, ".parquet"):
                os.link(self._parts / f"{names[shard.number]}{suffix}", self._target / f"{names[shard.number]}{suffix}")
            self._dispatcher.done(worker, shard)
            self._begin(busy, worker, end)
            self.last = time.perf_counter()
            yield worker, shard.stop - shard.start
            yield worker, Done(shard, Stages(encoded_images=shard.stop - shard.start))

    def _begin(self, busy: list[tuple[float, int, Shard]], worker: int, now: float) -> None:
        if (shard := self._dispatcher.ask(worker).shard) is not None:
            heapq.heappush(busy, (now + (shard.stop - shard.start) / self._speed, worker, shard))

    def close(self) -> None:
        pass


def simulate(manifest: Path, parts: Path, output: Path, workers: int, speed: float, description: Description) -> dict[str, Any]:
    """Run the whole job with stand-ins; return seconds, and the driver's megabytes."""
    marks: dict[str, float] = {}
    crews: list[StandIns] = []

    @contextmanager
    def open_stand_ins(plan: Plan, *_: object) -> Iterator[CrewTagging]:
        marks["planned"] = time.perf_counter()
        crews.append(StandIns(workers, speed, parts, plan.run_folder / "parts", description))
        yield CrewTagging(crews[0], 1)
        marks["published"] = time.perf_counter()

    def report_on(*arguments: Any) -> None:
        marks["summarised"] = time.perf_counter()
        original(*arguments)

    original, reports.report_on = reports.report_on, report_on  # type: ignore[assignment]
    runs.open_tagging = open_stand_ins  # type: ignore[assignment]
    began = time.perf_counter()
    summary = runs.run(manifest, output=Output(path=output), machine=Machine(workers=0), **SETTINGS, image_root=Path("/"))
    ended = time.perf_counter()
    assert summary.published
    assert summary.tagged == summary.rows
    return {
        "plan": marks["planned"] - began,
        "tag and join": crews[0].last - marks["planned"],
        "publish": marks["summarised"] - crews[0].last,
        "report": ended - marks["summarised"],
        "megabytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=10_000_000)
    parser.add_argument("--workers", type=int, nargs="+", default=[1, 4, 8, 16, 64])
    parser.add_argument("--speed", type=float, default=10_000.0, help="images per second of a worker")
    parser.add_argument("--photos", type=Path, default=DATA / "clothing", help="folder of JPEGs; default: in TAGGER_TEST_DATA")
    parser.add_argument("--folder", type=Path, help="where it is all written; default: a temporary one")
    parser.add_argument("--one", help=argparse.SUPPRESS)  # one simulation, in a process of its own: its description as JSON
    options = parser.parse_args()
    if options.one:
        paths = [options.folder / name for name in ("manifest.parquet", "premade/parts", "out/result.parquet")]
        paths[2].parent.mkdir()
        description = Description(*json.loads(options.one))
        print(json.dumps(simulate(*paths, options.workers[0], options.speed, description)))
        return
    with tempfile.TemporaryDirectory(dir=options.folder) as name:
        folder = Path(name)
        photos = [path.resolve() for path in sorted(options.photos.rglob("*.jpg"))[:300]]
        if not photos:
            sys.exit(f"{options.photos}: expected JPEGs, found none; name a folder of photos with --photos")
        write_manifest(folder / "manifest.parquet", options.rows, photos)
        (folder / "premade").mkdir()
        description, seconds = prepare(folder / "manifest.parquet", folder / "premade")
        print(f"{options.rows:,} rows; workers of {options.speed:,.0f} images/s. {machine('tagger', 'pyarrow')}")
        print(f"A worker's own work for a row beside encoding, its part written: {seconds / options.rows * 1e6:.1f} µs.")
        rows = []
        for workers in options.workers:
            command: list[object] = [sys.executable, __file__, "--one", json.dumps(description), "--folder", folder]
            found = last_json([*command, "--workers", workers, "--speed", options.speed])
            for path in sorted((folder / "out").rglob("*"), reverse=True):
                path.rmdir() if path.is_dir() else path.unlink()
            (folder / "out").rmdir()
            encoding = options.rows / (workers * options.speed)
            beyond = found["plan"] + found["tag and join"] + found["publish"] - encoding
            figures = [encoding, *(found[key] for key in ("plan", "tag and join", "publish", "report")), beyond]
            share = f"{100 * beyond / encoding:.1f} %"
            rows.append([workers, *(f"{one:,.1f}" for one in figures), share, f"{found['megabytes']:,.0f}"])
            print(rows[-1], file=sys.stderr, flush=True)
    heads = ["workers", "encoding, s", "plan", "tag and join", "publish", "report", "beyond encoding, without report"]
    print_table([*heads, "of encoding", "most MB"], rows)


if __name__ == "__main__":
    main()
