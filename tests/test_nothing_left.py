"""A thread that works on behind its test is found."""

from __future__ import annotations

import threading

from processes import busy_threads


def test_a_busy_thread_is_named_and_one_that_waits_is_not() -> None:
    done = threading.Event()

    def works_on() -> None:
        while not done.is_set():
            pass

    threads = [threading.Thread(target=each, name=each.__name__) for each in (works_on, done.wait)]
    for thread in threads:
        thread.start()
    try:
        found = busy_threads(0.3)
    finally:
        done.set()
        for thread in threads:
            thread.join()
    (said,) = (each for each in found if "works_on" in each)
    assert "test_nothing_left.py" in said
    assert not [each for each in found if each.startswith("wait:")]
