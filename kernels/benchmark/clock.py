"""Clocks of the benchmark of the kernel: times of a step, copy bandwidth, peak memory, launches.

Promise: what is timed is warm, and its inputs are not in the last cache. On a GPU the times are
those of device events, and the device is kept busy until the host has queued the step, so that the
host's own time is not in them (`host=True` leaves it in).
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import torch

Step = Callable[[int], object]
"""Runs once on the inputs of the given number."""

SLEEP = 4_000_000
"""Cycles that the device waits before a step: about 2 ms, in which the host queues it."""


class Clock:
    """Times on one device.

    Args:
        device: `cuda` or `cpu`.
        seconds: what the repetitions of one step may take together.
    """

    def __init__(self, device: str, seconds: float = 0.3) -> None:
        self.device = device
        self.seconds = seconds

    def synchronize(self) -> None:
        """Wait until the device is idle."""
        if self.device == "cuda":
            torch.cuda.synchronize()

    def times(self, step: Step, *, before: Step | None = None, host: bool = False) -> list[float]:
        """Milliseconds of repeated runs, after a warm-up; the count follows from `seconds`.

        Args:
            step: what is timed.
            before: runs before each step, untimed.
            host: leave the host's share in (on a GPU).
        """
        before = before or _nothing
        for number in range(3):
            before(number)
            step(number)
        before(3)
        self.synchronize()
        start = time.perf_counter()
        step(3)
        self.synchronize()
        once = max(time.perf_counter() - start, 1e-6)
        repeats = max(7, min(100, int(self.seconds / once)))
        if self.device == "cuda":
            return _event_times(step, before, repeats, host=host)
        found = []
        for number in range(4, 4 + repeats):
            before(number)
            start = time.perf_counter()
            step(number)
            found.append(1e3 * (time.perf_counter() - start))
        return found

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
        median = percentile(self.times(lambda _: target.copy_(source)), 50)
        return 2 * source.nbytes / (1e-3 * median)

    def peak_bytes(self, step: Step) -> int | None:
        """What a step holds at its largest beyond what was there; None where it can't be told."""
        if self.device != "cuda":
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


def _nothing(_number: int) -> None:
    pass


def _event_times(step: Step, before: Step, repeats: int, *, host: bool) -> list[float]:
    event: Any = torch.cuda.Event  # PyTorch gives these two no types
    sleep: Any = torch.cuda._sleep
    pairs = []
    for number in range(4, 4 + repeats):
        before(number)
        start, end = (event(enable_timing=True) for _ in range(2))
        if not host:
            sleep(SLEEP)
        else:
            torch.cuda.synchronize()
        start.record()
        step(number)
        end.record()
        pairs.append((start, end))
    torch.cuda.synchronize()
    return [start.elapsed_time(end) for start, end in pairs]


def percentile(values: list[float], percent: float) -> float:
    """The percentile, by linear interpolation."""
    ordered = sorted(values)
    at = (len(ordered) - 1) * percent / 100
    low = int(at)
    high = min(low + 1, len(ordered) - 1)
    return ordered[low] + (ordered[high] - ordered[low]) * (at - low)
