"""Every shard is tagged, whichever processes come, go and come again, and each reads the manifest forwards for long."""

from __future__ import annotations

import logging
from contextlib import contextmanager

from hypothesis import given
from hypothesis import strategies as st

from tagger.catalog.manifest import Shard
from tagger.inference.dispatch import RUN, Answer, Dispatcher, Done, tag_what_is_asked
from tagger.inference.timings import Stages
from tagger.settings.options import Machine


def shards(count: int) -> list[Shard]:
    return [Shard(number, 64 * number, 64 * number + 64) for number in range(count)]


@given(count=st.integers(0, 30), steps=st.lists(st.tuples(st.integers(0, 3), st.sampled_from(["ask", "done", "lost"]))))
def test_every_shard_is_done_once_unless_a_process_is_lost(count: int, steps: list[tuple[int, str]]):
    dispatcher, all_shards = Dispatcher(), shards(count)
    assert dispatcher.ask(0) == Answer(None)
    assert not dispatcher.finished
    dispatcher.offer(all_shards)
    given_out: dict[int, list[Shard]] = {number: [] for number in range(5)}
    done: list[Shard] = []
    for process, step in [*steps, *((number, "lost") for number in range(4)), *[(4, "ask"), (4, "done")] * (count + 1)]:
        if step == "ask" and (shard := dispatcher.ask(process).shard) is not None:
            assert shard not in done + [other for own in given_out.values() for other in own]
            given_out[process].append(shard)
        elif step == "done" and given_out[process]:
            done.append(given_out[process].pop(0))
            dispatcher.done(process, done[-1])
        elif step == "lost":
            assert dispatcher.lost(process) == len(given_out[process])
            given_out[process] = []
    assert sorted(shard.number for shard in done) == list(range(count))
    assert dispatcher.ask(0) == Answer(None, finished=True)


def test_processes_get_neighbours_and_begin_runs_in_order():
    dispatcher = Dispatcher()
    dispatcher.offer(shards(RUN + 3))
    first = [dispatcher.ask(0).shard.number for _ in range(3)]
    second = [dispatcher.ask(1).shard.number for _ in range(3)]
    assert (first, second) == ([0, 1, 2], [RUN, RUN + 1, RUN + 2])
    assert dispatcher.ask(1).shard.number == 3  # no run is left: what the other has before it
    assert dispatcher.ask(0).shard.number == 4
    assert dispatcher.lost(1) == 4
    assert [dispatcher.ask(0).shard.number for _ in range(2)] == [5, 6]
    assert dispatcher.ask(2).shard.number == RUN


def test_a_process_tags_ascending_stretches_tells_its_warnings_and_ends(caplog):
    order = [*shards(3), None, Shard(9, 576, 640), Shard(4, 256, 320)]
    told, stretches = [], []

    class Worker:
        description = "what it is made by"

        def tag(self, asked, tell):
            stretches.append([])
            for shard in asked:
                logging.getLogger("tagger.test").warning("about %s", shard.number)
                stretches[-1].append(shard.number)
                tell(Done(shard, Stages()))

    @contextmanager
    def make(machine):
        yield Worker()

    def ask() -> Answer:
        return Answer(order.pop(0)) if order else Answer(None, finished=True)

    tag_what_is_asked(make, Machine(), ask, told.append)
    assert stretches == [[0, 1, 2], [9], [4]]
    assert told[0] == "what it is made by"
    assert [one.shard.number for one in told if isinstance(one, Done)] == [0, 1, 2, 9, 4]
    assert [one.getMessage() for one in told if isinstance(one, logging.LogRecord)][:2] == ["about 0", "about 1"]
    assert not caplog.records
