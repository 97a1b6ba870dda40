from __future__ import annotations

import threading
import time
from contextlib import closing

import pytest

from antcache.extract.prefetch import prefetch


def numbers(stop, seen):
    try:
        for i in range(stop):
            seen.append(i)
            yield i
    finally:
        seen.append("closed")


def test_prefetch_keeps_order_and_ends():
    seen = []
    before = threading.active_count()
    assert list(prefetch(numbers(50, seen), 3)) == list(range(50))
    assert seen[-1] == "closed"
    assert threading.active_count() == before


def test_prefetch_stays_within_its_depth():
    seen = []
    with closing(prefetch(numbers(50, seen), 3)) as items:
        for item in items:
            time.sleep(0.002)
            assert len(seen) - (item + 1) <= 3 + 1


@pytest.mark.parametrize("error", [ValueError("broken"), KeyboardInterrupt()])
def test_prefetch_passes_errors_on(error):
    def failing():
        yield 1
        raise error

    items = prefetch(failing(), 3)
    assert next(items) == 1
    with pytest.raises(type(error)):
        next(items)


def test_prefetch_ends_its_thread_when_closed():
    """Also while the producer waits for room."""
    seen = []
    before = threading.active_count()
    items = prefetch(numbers(1000, seen), 2)
    next(items)
    items.close()
    assert threading.active_count() == before
    assert seen[-1] == "closed"
    assert len(seen) < 10
