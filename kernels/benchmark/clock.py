"""Clocks of the benchmark of the kernel: times of a step, copy bandwidth, peak memory, launches.

Promise: what is timed is warm, and its inputs are not in the last cache. Steps that are timed
together take turns, run by run, so that whatever else the machine does meets all of them. On a GPU
the times are those of device events, and the device is kept busy until the host has queued the
step, so that the host's own time is not in them (`host=True` leaves it in).
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch

Step = Callable[[int], object]
"""Runs once on the inputs of the given number."""

SLEEP = 4_000_000
"""Cycles that the device waits before a step: about 2 ms, in which the host queues it."""


def _nothing(_number: int) -> None:
    pass


@dataclass(frozen=True, kw_only=True)
class Timed:
    """What is timed.

    Attributes:
        step: the step.
        before: runs before each step, untimed.
        host: leave the host's share in (on a GPU).
    """

    step: Step
    before: Step = _nothing
    host: bool = False


class Clock:
    """Times on one device.

    Args:
        device: `cuda` or `cpu`.
        seconds: what the repetitions of one step may take, on average over those that take turns.
    """

    def __init__(self, device: str, seconds: float) -> None:
        self.device = device
        self.seconds = seconds

    def synchronize(self) -> None:
        """Wait until the device is idle."""
        if self.device == "cuda":
            torch.cuda.synchronize()

    def times(self, *timed: Timed) -> list[list[float]]:
        """Milliseconds of repeated runs of each, in turn, after a warm-up.

        There are as many runs as fit into `seconds`, 7 at least and 100 at most.
        """
        for number in range(3):
            for one in timed:
                one.before(number)
                one.step(number)
        once = sum(self._run(one, 3) for one in timed)
        repeats = max(7, min(100, int(self.seconds * len(timed) / max(once, 1e-6))))
        numbers = range(4, 4 + repeats)
        if self.device == "cuda":
            return _event_times(timed, numbers)
        found: list[list[float]] = [[] for _ in timed]
        for number in numbers:
            for one, times in zip(timed, found, strict=True):
                times.append(1e3 * self._run(one, number))
        return found

    def _run(self, one: Timed, number: int) -> float:
        """Seconds of one run, the device idle before and after it."""
        one.before(number)
        self.synchronize()
        start = time.perf_counter()
        one.step(number)
        self.synchronize()
        return time.perf_counter() - start

    def cache_bytes(self) -> int:
        """Size of the last cache."""
        if self.device == "cuda":
            return int(torch.cuda.get_device_properties(0).L2_cache_size)
        return 64 * 2**20  # no portable way to ask; that of most machines or more

    def copy_bandwidth(self) -> float:
        """Bytes a second of a copy between buffers far larger than the cache, both ways counted."""
        size = max(2**28, 16 * self.cache_bytes()) if self.device == "cuda" else 2**28
        source = torch.ones(size // 4, device=self.device)
        target = torch.empty_like(source)
        (times,) = self.times(Timed(step=lambda _: target.copy_(source)))
        return 2 * source.nbytes / (1e-3 * percentile(times, 50))

    def peak_bytes(self, step: Step) -> int | None:
        """Run a step: what it holds at most beyond what was there; None where it can't be told."""
        if self.device != "cuda":
            step(0)
            return None
        self.synchronize()
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        kept = step(0)
        self.synchronize()
        del kept
        return torch.cuda.max_memory_allocated() - before

    def launches(self, step: Step) -> int:
        """Launches of a step on the GPU (kernels, fills and copies), by PyTorch's profiler."""
        from torch.profiler import ProfilerActivity, profile

        step(0)
        self.synchronize()
        with profile(activities=[ProfilerActivity.CUDA, ProfilerActivity.CPU]) as recorded:
            step(1)
            self.synchronize()
        events = recorded.events() or ()
        return sum(str(event.device_type) == "DeviceType.CUDA" for event in events)


def _event_times(timed: Sequence[Timed], numbers: Sequence[int]) -> list[list[float]]:
    event: Any = torch.cuda.Event  # PyTorch gives these two no types
    sleep: Any = torch.cuda._sleep
    pairs: list[list[tuple[Any, Any]]] = [[] for _ in timed]
    for number in numbers:
        for one, found in zip(timed, pairs, strict=True):
            one.before(number)
            start, end = (event(enable_timing=True) for _ in range(2))
            if not one.host:
                sleep(SLEEP)
            else:
                torch.cuda.synchronize()
            start.record()
            one.step(number)
            end.record()
            found.append((start, end))
    torch.cuda.synchronize()
    return [[start.elapsed_time(end) for start, end in found] for found in pairs]


def percentile(values: list[float], percent: float) -> float:
    """The percentile, by linear interpolation."""
    ordered = sorted(values)
    at = (len(ordered) - 1) * percent / 100
    low = int(at)
    high = min(low + 1, len(ordered) - 1)
    return ordered[low] + (ordered[high] - ordered[low]) * (at - low)
