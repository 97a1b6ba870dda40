"""What Python's own memory holds at most while something is done."""

from __future__ import annotations

import tracemalloc
from collections.abc import Callable

import pytest

MostHeld = Callable[..., int]

TRIES = 3


@pytest.fixture
def most_held() -> MostHeld:
    """Bytes that were held at most, beside those before, while something was done: of three times.

    Whatever else the process does meanwhile is counted, too: threads of tests before, and what
    garbage of theirs does when it is collected. What is done itself takes as much each time, so
    that the least of three is no less than that. Once it was less than `enough`, nobody asks again.
    """

    def measured(work: Callable[[], object], enough: int = 0) -> int:
        peaks = []
        for _ in range(TRIES):
            tracemalloc.start()
            try:
                work()
                peaks.append(tracemalloc.get_traced_memory()[1])
            finally:
                tracemalloc.stop()
            if peaks[-1] < enough:
                break
        return min(peaks)

    return measured
