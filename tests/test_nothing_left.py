"""A thread that works on behind its test is found."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest
from processes import busy_threads


@pytest.mark.skipif(
    not Path("/proc/self/task").is_dir(), reason="this system does not say what a thread has used"
)
def test_a_busy_thread_is_named_and_one_that_waits_is_not() -> None:
    done = threading.Event()

    def works_on() -> None:
        while not done.is_set():
            pass

    threads = [threading.Thread(target=each, name=each.__name__) for each in (works_on, done.wait)]
    for thread in threads:
        thread.start()
    try:
        tries = (busy_threads(0.3) for _ in range(100))  # other processes may have the cores
        found = next(each for each in tries if each)
    finally:
        done.set()
        for thread in threads:
            thread.join()
    (said,) = (each for each in found if "works_on" in each)
    assert "test_nothing_left.py" in said
    assert not [each for each in found if each.startswith("wait:")]
