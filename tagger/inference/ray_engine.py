"""Several machines of a Ray cluster: an actor for each encoder, with decoding processes of its own, over the same shards.

Ray places the actors, starts one again that has died, and calls it again; which shards it had then goes back to those that wait.
Parts lie where the run's results go, so an actor sends no image and no tag over the network of Ray, and a driver that dies is
continued by the same command.
"""

from __future__ import annotations

import logging
import os
import socket
import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import replace
from typing import Any

from tagger.catalog.manifest import Shard
from tagger.core import shutdown
from tagger.core.errors import ConfigError, StoppedError, TaggerError, UsageError
from tagger.core.files import reason
from tagger.core.text import first_line
from tagger.inference.dispatch import Answer, Dispatcher, Done, MakeWorker, Told, tag_what_is_asked
from tagger.settings.options import Machine

log = logging.getLogger(__name__)

LAST_SECONDS = 20.0  # for actors to tidy their caches
RESTARTS = 20  # of one actor, after which it is lost
ANSWER_SECONDS = 10.0  # for the cluster to be there
TELL_SECONDS = 1.0  # between two words about rows that were read
PLACED_SECONDS = 120.0  # for the first actor to be there


class Desk:
    """Where actors ask for shards and leave word; an actor itself, on the driver's node."""

    def __init__(self) -> None:
        self._dispatcher, self._told = Dispatcher(), list[tuple[int, Told]]()
        self._nodes: dict[int, str] = {}

    def offer(self, shards: Sequence[Shard]) -> None:
        self._dispatcher.offer(shards)

    def begin(self, number: int, node: str) -> None:
        """Note that an actor starts, for the first time or again."""
        self._nodes[number] = node
        if lost := self._dispatcher.lost(number):
            self._note(f"worker {number}: has died and was started again; its {lost} shards are given out again")

    def ask(self, number: int) -> Answer:
        return self._dispatcher.ask(number)

    def tell(self, number: int, messages: Sequence[Told]) -> None:
        for message in messages:
            if isinstance(message, Done):
                self._dispatcher.done(number, message.shard)
            self._told.append((number, message))

    def lost(self, number: int) -> None:
        """Take back the shards of an actor that does not come back."""
        self._dispatcher.lost(number)

    def poll(self, nodes: Sequence[str]) -> tuple[list[tuple[int, Told]], bool]:
        """Return what was told since the last call, and whether all is done. nodes: those that are alive."""
        for number, node in self._nodes.items():
            if node not in nodes and (lost := self._dispatcher.lost(number)):
                self._note(f"worker {number}: its node has gone; its {lost} shards are given out again")
        told, self._told = self._told, []
        return told, self._dispatcher.finished

    def _note(self, text: str) -> None:
        self._told.append((-1, logging.LogRecord(__name__, logging.WARNING, "", 0, text, None, None)))


class Actor:
    """Tags shards on the node and the GPU that Ray gives it."""

    def run(self, number: int, make: MakeWorker, machine: Machine, desk: Any, threads: int) -> TaggerError | None:
        """Tag until all is done; returns the error that ended it, as Ray would wrap it.

        These are no arguments of the actor, which Ray does not keep for as long as it may have to start it again.
        """
        import ray

        os.environ["OMP_NUM_THREADS"] = str(threads)  # Ray's own is 1 for an actor of one core
        ray.get(desk.begin.remote(number, ray.get_runtime_context().get_node_id()))
        waiting: list[Told] = []
        sent = time.monotonic()

        def tell(message: Told) -> None:
            nonlocal sent
            waiting.append(message)
            if not isinstance(message, int) or time.monotonic() - sent > TELL_SECONDS:
                messages, waiting[:] = list(waiting), []
                ray.get(desk.tell.remote(number, messages))
                sent = time.monotonic()

        def ask() -> Answer:
            answer: Answer = ray.get(desk.ask.remote(number))
            return answer

        try:
            tag_what_is_asked(make, machine, ask, tell)
        except TaggerError as error:
            return error
        return None


class RayActors:
    """The actors of one run on a cluster."""

    def __init__(self, make: MakeWorker, machine: Machine) -> None:
        ray = _connect(machine.ray_address)
        from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

        self._ray = ray
        resources = ray.cluster_resources()
        gpus = int(resources.get("GPU", 0)) if machine.device in (None, "cuda") else 0
        nodes = [node for node in ray.nodes() if node["Alive"]]
        count = machine.ray_workers or gpus or len(nodes)
        if resources.get("CPU", 0) < 1 or (machine.device == "cuda" and not gpus):
            wanted = "GPUs" if machine.device == "cuda" else "CPUs"
            raise StoppedError(f"--engine ray: expected {wanted} in the cluster, found {_listed(resources)}; add a node")
        here = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=False)
        self._desk = ray.remote(Desk).options(num_cpus=0, scheduling_strategy=here).remote()
        cores = int(resources["CPU"])
        each = replace(machine, device="cuda" if gpus else machine.device, progress=False)
        options = {
            "num_cpus": min(1 + (machine.workers or 0), max(cores // count, 1)) if gpus else 1,
            "num_gpus": 1 if gpus else 0,
            "max_restarts": RESTARTS,
            "max_task_retries": -1,
            "scheduling_strategy": "SPREAD",
        }
        remote = ray.remote(Actor).options(**options)
        threads = max(cores // count, 1)
        self._actors = [remote.remote() for _ in range(count)]
        self._runs = {
            actor.run.remote(number, make, each, self._desk, threads): number for number, actor in enumerate(self._actors)
        }

    def __len__(self) -> int:
        return len(self._actors)

    def offer(self, shards: Sequence[Shard]) -> None:
        """Say which shards are to be tagged."""
        self._ray.get(self._desk.offer.remote(shards))

    def told(self) -> Iterator[tuple[int, Told]]:
        """Yield what each actor, by its number, tells, until all shards are done.

        Raises what an actor could not go on from, StoppedError if none is left or none can be placed.
        """
        ray, began, heard = self._ray, time.monotonic(), False
        while True:
            shutdown.check()
            ended, _ = ray.wait(list(self._runs), timeout=0.2) if self._runs else ([], [])
            try:
                alive = [node["NodeID"] for node in ray.nodes() if node["Alive"]]
                told, finished = ray.get(self._desk.poll.remote(alive), timeout=60)
            except ray.exceptions.RayError as error:
                raise StoppedError(
                    f"--engine ray: expected the cluster to answer, found: {first_line(error)}; nothing was published; run "
                    "again to continue"
                ) from error
            yield from told
            heard = heard or bool(told)
            if finished:
                ray.wait(list(self._runs), num_returns=len(self._runs), timeout=LAST_SECONDS)
                return
            for run in ended:
                self._ended(run)
            if not heard and time.monotonic() - began > PLACED_SECONDS:
                free = _listed(ray.available_resources())
                raise StoppedError(
                    f"--engine ray: expected room for a worker within {PLACED_SECONDS:g} s, found free: {free}; add a node, or "
                    "run again when others have ended"
                )

    def close(self) -> None:
        """End the actors; the cluster goes on."""
        for actor in self._actors:
            with suppress(Exception):  # whatever is wrong with the cluster, it has been said
                self._ray.kill(actor)
        self._ray.shutdown()

    def _ended(self, run: Any) -> None:
        number = self._runs.pop(run)
        try:
            error = self._ray.get(run)
        except self._ray.exceptions.RayError as found:
            error = StoppedError(f"worker {number}: {first_line(found)}")
        if error is not None and not isinstance(error, StoppedError):
            raise error
        self._ray.get(self._desk.lost.remote(number))
        if not self._runs:
            raise error or StoppedError("--engine ray: expected a worker, found none left; run again to continue")
        log.warning("worker %d: ended; the others go on: %s", number, error)


def _connect(address: str | None) -> Any:
    """Join the cluster, or start one on this machine where none is named. Raises ConfigError, UsageError, StoppedError."""
    _require_answer(address or os.environ.get("RAY_ADDRESS"))
    # It tells its makers how it is used unless it is asked not to.
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    try:
        import ray
    except ImportError as error:
        raise ConfigError("--engine ray: expected ray, found none; pip install 'tagger[ray]'") from error
    try:
        ray.init(address=address, log_to_driver=False, include_dashboard=False, logging_level=logging.ERROR)
    except (ConnectionError, RuntimeError, ValueError, ray.exceptions.RayError) as error:
        raise StoppedError(
            f"--ray-address {address or os.environ.get('RAY_ADDRESS', '')}: expected a Ray cluster, found: {first_line(error)}; "
            "start it, or correct the address"
        ) from error
    return ray


def _require_answer(address: str | None) -> None:
    """Ask for a connection, as Ray itself waits for minutes. Raises UsageError, StoppedError."""
    if address in (None, "", "auto", "local"):
        return
    host, _, port = address.rpartition(":")
    if "://" in address or not host or not port.isdecimal():
        raise UsageError(
            f"--ray-address {address}: expected HOST:PORT, as `ray start` prints it; start tagger on a machine of the cluster"
        )
    try:
        socket.create_connection((host, int(port)), timeout=ANSWER_SECONDS).close()
    except (OSError, OverflowError) as error:
        raise StoppedError(
            f"--ray-address {address}: expected a Ray cluster, found: {reason(error)}; start it, or correct the address"
        ) from error


def _listed(resources: dict[str, float]) -> str:
    return ", ".join(f"{resources.get(name, 0):g} {name}" for name in ("CPU", "GPU"))
