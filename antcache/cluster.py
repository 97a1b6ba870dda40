"""Work spread over the machines of a Ray cluster: workers, each with something loaded once.

Promise: each item is done once as far as anybody can see, by whichever worker is free; what a lost
worker or node was at is given to another, and its place is filled when there is room. An item that
workers are lost with again and again ends the work. What work raises comes out as it was raised.
"""

from __future__ import annotations

import logging
import socket
from collections import Counter, deque
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from typing import Any

from antcache.errors import BadConfig, WriteFailed, needs

logger = logging.getLogger(__name__)

ENGINES = ("local", "ray")
"""Where work runs: in this process, or on a cluster."""

ATTEMPTS = 3
"""How often an item may take its worker along."""

ANSWER_S = 10.0
"""How long a cluster may take to answer."""

LOOK_S = 1.0
"""How often `waiting` is called while nothing comes back."""


@contextmanager
def connected(address: str | None) -> Iterator[Any]:
    """The module `ray`, connected to a cluster: `auto`, `host:port`, or None for Ray's own choice
    (`RAY_ADDRESS`, a cluster that runs on this machine, or one of this machine alone). A program
    that is connected already stays so.

    Raises:
        MissingExtra: Ray is not installed.
        BadConfig: there is no such cluster.
    """
    with needs("ray", "ray"):
        import ray
    if ray.is_initialized():
        yield ray
        return
    try:
        _knock(address)
        ray.init(address=address, log_to_driver=False, logging_level=logging.ERROR)
    except (ConnectionError, ValueError, RuntimeError) as error:
        found = (str(error).splitlines() or [type(error).__name__])[0]
        raise BadConfig(
            "no Ray cluster there",
            where=address or "",
            found=found,
            hint="start one with `ray start --head`, and give its address",
        ) from error
    try:
        yield ray
    finally:
        ray.shutdown()


def _knock(address: str | None) -> None:
    """Raise `ConnectionError` where nobody answers at `host:port`: Ray would try for minutes."""
    host, _, port = (address or "").rpartition(":")
    if not host or "/" in host or not port.isdecimal():
        return  # `auto`, a client's address, or what Ray itself will refuse
    try:
        socket.create_connection((host.strip("[]"), int(port)), timeout=ANSWER_S).close()
    except (OSError, OverflowError) as error:
        raise ConnectionError(f"nobody answers ({error})") from error


def resource(ray: Any, name: str) -> float:
    """How many of a resource (`CPU`, `GPU`) the cluster has."""
    return float(ray.cluster_resources().get(name, 0.0))


def spread(
    ray: Any,
    worker: type,
    arguments: Sequence[Any],
    items: Mapping[str, Sequence[Any]],
    *,
    workers: int,
    options: Mapping[str, Any],
    at_once: int = 1,
    waiting: Callable[[], None] = lambda: None,
) -> Generator[tuple[str, Any], None, None]:
    """What a worker's method `do` gives for each item, as it comes.

    Args:
        ray: the module, connected.
        worker: a class with methods `ready()`, called once, and `do(name, *item)`.
        arguments: what it is made with.
        items: by name, what `do` is given.
        workers: how many are wanted; those that the cluster has no room for are waited for.
        options: what each needs, as Ray's `options` takes it.
        at_once: items that a worker does at the same time, in threads.
        waiting: is called now and then while nothing comes back.

    Raises:
        WriteFailed: `ATTEMPTS` workers were lost at the same item, or one after the other before
            they were ready.
    """
    crew = _Crew(ray, worker, arguments, options, at_once)
    to_do, lost = deque(items), Counter[str]()
    left = len(items)
    try:
        for _ in range(min(workers, left)):
            crew.hire()
        while left:
            while to_do and crew.give(to_do[0], items[to_do[0]]):
                to_do.popleft()
            ended = crew.next_ended()
            if ended is None:
                waiting()
                continue
            name, result, why = ended
            if why is None:
                left -= 1
                yield name, result
                continue
            lost[name] += 1
            logger.warning("%s: its worker was lost (%s); done again", name, why)
            if lost[name] == ATTEMPTS:
                raise WriteFailed(f"{ATTEMPTS} workers were lost with it", where=name, found=why)
            to_do.appendleft(name)
    finally:
        crew.dismiss()


class _Crew:
    """The workers there are, those that are starting, and what each is at."""

    def __init__(
        self,
        ray: Any,
        worker: type,
        arguments: Sequence[Any],
        options: Mapping[str, Any],
        at_once: int,
    ) -> None:
        self._ray = ray
        self._make = ray.remote(worker).options(
            max_restarts=0, max_concurrency=at_once + 1, scheduling_strategy="SPREAD", **options
        )
        self._arguments = [ray.put(each) for each in arguments]
        self._starting: dict[Any, Any] = {}  # what tells that a worker is ready -> the worker
        self._busy: dict[Any, tuple[Any, str]] = {}  # what is to come -> by whom, of which item
        self._room: dict[Any, int] = {}  # worker -> how many more items it may have
        self._at_once = at_once
        self._lost_early = 0

    def hire(self) -> None:
        """Start one more worker, as soon as there is room."""
        worker = self._make.remote(*self._arguments)
        self._starting[worker.ready.remote()] = worker

    def give(self, name: str, item: Sequence[Any]) -> bool:
        """Give an item to the worker that has least to do; false if all have enough."""
        if not any(self._room.values()):
            return False
        worker = max(self._room, key=lambda each: self._room[each])
        self._room[worker] -= 1
        self._busy[worker.do.remote(name, *item)] = worker, name
        return True

    def next_ended(self) -> tuple[str, Any, str | None] | None:
        """The item that ended next, with its result, or why its worker was lost; None if there is
        none yet."""
        ready, _ = self._ray.wait([*self._busy, *self._starting], timeout=LOOK_S)
        if not ready:
            return None
        (reference,) = ready
        if reference in self._starting:
            worker = self._starting.pop(reference)
            _, why = self._fetched(reference)
            if why is None:
                self._room[worker], self._lost_early = self._at_once, 0
                return None
            logger.warning("a worker was lost before it was ready (%s)", why)
            self._lost_early += 1
            if self._lost_early == ATTEMPTS:
                raise WriteFailed(f"{ATTEMPTS} workers were lost before they were ready", found=why)
            self.hire()
            return None
        worker, name = self._busy.pop(reference)
        result, why = self._fetched(reference)
        if worker in self._room:
            self._room[worker] += 1
            if why is not None and not self._lives(worker):
                del self._room[worker]  # what else it was at comes back, too
                with suppress(Exception):  # one that is only out of reach shall not go on
                    self._ray.kill(worker)
                self.hire()
        return name, result, why

    def _fetched(self, reference: Any) -> tuple[Any, str | None]:
        """A result, or why there is none; raises what the work raised."""
        errors = self._ray.exceptions
        try:
            return self._ray.get(reference), None
        except errors.RayTaskError as error:
            if isinstance(error.cause, errors.RayError):  # what it had asked others for is lost
                return None, type(error.cause).__name__
            raise error.cause from None
        except errors.RayError as error:
            return None, type(error).__name__

    def _lives(self, worker: Any) -> bool:
        """Does it answer? One whose node is gone may be waited for until Ray has found that out."""
        try:
            self._ray.get(worker.__ray_ready__.remote(), timeout=ANSWER_S)
        except self._ray.exceptions.RayError:
            return False
        return True

    def dismiss(self) -> None:
        """End all of them."""
        for worker in (*self._room, *self._starting.values()):
            with suppress(Exception):  # one that is lost is none to end
                self._ray.kill(worker)
