"""What tags the shards of a run: an engine in this process, or several processes, here or on a cluster."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from typing import Protocol

from tagger.catalog.manifest import Shard
from tagger.catalog.results import Results
from tagger.core.errors import StoppedError
from tagger.inference.dispatch import Done, Told
from tagger.inference.fingerprints import Description, describe
from tagger.inference.load import open_engine
from tagger.inference.local_engine import LocalEngine
from tagger.inference.timings import Stages
from tagger.settings.options import Machine, Output
from tagger.workflows.plan import Plan
from tagger.workflows.shard_worker import worker_of

log = logging.getLogger(__name__)

Advance = Callable[[int], object]


class LocalTagging:
    """Tags with an engine in this process.

    description: of what tags are made by. stages: filled in meanwhile; writing: seconds. processes: how many encode, and
    decoders: how many decode for each, None where that is theirs to know.
    """

    def __init__(self, plan: Plan, engine: LocalEngine) -> None:
        self._plan, self._engine = plan, engine
        self.description = describe(plan.job, plan.rows, engine.predictor, engine.hybrid, plan.earlier)
        self.stages, self.writing = engine.stages, 0.0
        self.processes = 1
        self.decoders: int | None = engine.workers

    def tag(self, results: Results, shards: Sequence[Shard], advance: Advance) -> Iterator[Shard]:
        """Tag these shards and leave their parts in the results; yield each whose part is there.

        advance: called with the number of rows that were read or recalled.
        """
        for shard, table, sketches in self._engine.tag(
            self._plan.job.manifest, results.schema, shards, advance, self._plan.earlier
        ):
            start = time.perf_counter()
            results.write(shard, table, sketches)
            self.writing += time.perf_counter() - start
            yield shard


class Crew(Protocol):
    """Processes that tag."""

    def __len__(self) -> int: ...

    def offer(self, shards: Sequence[Shard]) -> None: ...

    def told(self) -> Iterator[tuple[int, Told]]: ...

    def close(self) -> None: ...


class CrewTagging:
    """Tags with other processes, which leave the parts themselves; what it is made of is as in LocalTagging.

    Every one of them says what its tags are made by; where two differ, nothing is mixed. Raises StoppedError then, and where
    parts are not where this process can see them.
    """

    def __init__(self, crew: Crew, decoders: int | None) -> None:
        self._crew, self._told = crew, crew.told()
        self._done: dict[int, Stages] = {}
        self._seen: set[tuple[str, str]] = set()
        self.stages, self.writing = Stages(), 0.0
        self.processes, self.decoders = len(crew), decoders
        self.description = next(told for _, told in self._heard() if isinstance(told, Description))

    def tag(self, results: Results, shards: Sequence[Shard], advance: Advance) -> Iterator[Shard]:
        """Tag these shards, as LocalTagging does, but in any order."""
        self._crew.offer(shards)
        for process, told in self._heard():
            if isinstance(told, Description):
                self._require_same(told, process)
            elif isinstance(told, Done):
                self._add(process, told.stages)
                results.collect(told.shard)
                yield told.shard
            elif isinstance(told, int):
                advance(told)

    def _heard(self) -> Iterator[tuple[int, Told]]:
        """Yield what the processes tell; what they log is logged here, once for all."""
        for process, told in self._told:
            if isinstance(told, logging.LogRecord):
                if (line := (told.name, told.getMessage())) not in self._seen:
                    self._seen.add(line)
                    logging.getLogger(told.name).handle(told)
            else:
                yield process, told

    def _require_same(self, other: Description, process: int) -> None:
        own, found = self.description, other
        differ = [name for name in own.depends_on if own.depends_on[name] != found.depends_on.get(name)]
        differ += [name for name in own.model if own.model[name] != found.model.get(name)]
        if differ:
            raise StoppedError(
                f"process {process + 1}: expected the versions, weights and manifest of the others, found another "
                f"{', '.join(dict.fromkeys(differ))}; nothing was published; make them the same and run again"
            )

    def _add(self, process: int, stages: Stages) -> None:
        """Take note of all that a process has done so far. One that was started again counts anew."""
        self._done[process] = stages
        total = Stages(began=self.stages.began)
        for one in self._done.values():
            total.add(one)
        vars(self.stages).update(vars(total))


Tagging = LocalTagging | CrewTagging


@contextmanager
def open_tagging(plan: Plan, machine: Machine, output: Output) -> Iterator[Tagging]:
    """Open what tags the plan, as the machine's options say. ModelError, ConfigError, UsageError, StoppedError."""
    if machine.engine == "local" and machine.devices is None:
        with open_engine(plan.job, machine, rows=plan.rows) as engine:
            yield LocalTagging(plan, engine)
        return
    make = worker_of(plan, output)
    crew: Crew
    if machine.engine == "ray":
        from tagger.inference.ray_engine import RayActors  # and ray, which is an extra

        crew, decoders = RayActors(make, machine), machine.workers
    else:
        from tagger.inference.device_processes import DeviceProcesses, machines_of

        machines = machines_of(machine)
        crew, decoders = DeviceProcesses(make, machines), machines[0].workers
    with closing(crew):
        yield CrewTagging(crew, decoders)
