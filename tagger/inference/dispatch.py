"""Several processes tag one manifest: who gets which shard, and what they tell the process that publishes."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from logging.handlers import QueueHandler
from typing import NamedTuple, Protocol

from tagger.catalog.manifest import Shard
from tagger.inference.fingerprints import Description
from tagger.inference.timings import Stages
from tagger.settings.options import Machine

RUN = 16  # neighbouring shards, about a row group of a manifest
PAUSE_SECONDS = 0.2  # between two questions of a process for which there is no shard just now


class Answer(NamedTuple):
    """What a process is told that asks for a shard: one, or None while none waits; finished: all are done, it may end."""

    shard: Shard | None
    finished: bool = False


class Done(NamedTuple):
    """A shard's part is there. stages: of all that the process has done so far."""

    shard: Shard
    stages: Stages


Told = Description | int | Done | logging.LogRecord  # what results are made by; rows that were read; a shard; a warning
Ask = Callable[[], Answer]
Tell = Callable[[Told], object]


class Worker(Protocol):
    """What a process tags shards with."""

    @property
    def description(self) -> Description: ...

    def tag(self, shards: Iterable[Shard], tell: Tell) -> None:
        """Tag these shards, in ascending order, and leave their parts; tell each, and the rows in between."""


MakeWorker = Callable[[Machine], AbstractContextManager[Worker]]  # can be pickled


class Dispatcher:
    """Hands out shards, and takes back those of a process that is lost.

    A process gets neighbours, up to the end of a run of RUN shards, so that it reads the manifest forwards; runs are begun in
    order, so that what is done can be joined from the front while the rest is on its way.
    """

    def __init__(self) -> None:
        self._waiting: dict[int, Shard] | None = None
        self._given: dict[int, dict[int, Shard]] = {}
        self._last: dict[int, int] = {}

    def offer(self, shards: Sequence[Shard]) -> None:
        """Say which shards are to be tagged; before, nobody gets one."""
        self._waiting = {shard.number: shard for shard in shards}

    @property
    def finished(self) -> bool:
        return self._waiting is not None and not self._waiting and not any(self._given.values())

    def ask(self, process: int) -> Answer:
        """Return the process's next shard, or that none waits."""
        if not self._waiting:
            return Answer(None, self.finished)
        number = self._last.get(process, -1) + 1
        if number % RUN == 0 or number not in self._waiting:
            begun = {last // RUN for last in self._last.values()}
            number = next((one for one in self._waiting if one // RUN not in begun), next(iter(self._waiting)))
        shard = self._waiting.pop(number)
        self._given.setdefault(process, {})[number] = shard
        self._last[process] = number
        return Answer(shard)

    def done(self, process: int, shard: Shard) -> None:
        self._given.get(process, {}).pop(shard.number, None)

    def lost(self, process: int) -> int:
        """Take back what the process has not done; returns how many shards that are."""
        given = self._given.pop(process, {})
        self._last.pop(process, None)
        if self._waiting is not None and given:
            self._waiting = dict(sorted((self._waiting | given).items()))
        return len(given)


def tag_what_is_asked(make: MakeWorker, machine: Machine, ask: Ask, tell: Tell) -> None:
    """Tag shards in this process until all are done, anywhere. Raises the errors of core/errors.py."""
    following: Shard | None = None

    def stretch(shard: Shard) -> Iterator[Shard]:
        """Yield shards for as long as they ascend and others wait."""
        nonlocal following
        while True:
            yield shard
            following = ask().shard
            if following is None or following.number < shard.number:
                return
            shard, following = following, None

    with _told(tell), make(machine) as worker:
        tell(worker.description)
        while True:
            answer = Answer(following) if following else ask()
            following = None
            if answer.shard is not None:
                worker.tag(stretch(answer.shard), tell)
            elif answer.finished:
                return
            else:
                time.sleep(PAUSE_SECONDS)


class _Teller(QueueHandler):
    """Tell records instead of queueing them, with their messages formatted, as arguments may not be pickled."""

    def __init__(self, tell: Tell) -> None:
        super().__init__(None)  # type: ignore[arg-type]  # enqueue, which alone uses it, is ours
        self._tell = tell

    def enqueue(self, record: logging.LogRecord) -> None:
        self._tell(record)


@contextmanager
def _told(tell: Tell) -> Iterator[None]:
    logger, handler = logging.getLogger("tagger"), _Teller(tell)
    handlers, level, propagate = logger.handlers, logger.level, logger.propagate
    logger.handlers, logger.propagate = [handler], False
    logger.setLevel(logging.INFO)
    try:
        yield
    finally:
        logger.handlers, logger.propagate = handlers, propagate
        logger.setLevel(level)
