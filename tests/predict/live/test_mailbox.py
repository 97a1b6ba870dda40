"""Who is slow takes the newest; what is left out is counted."""

from __future__ import annotations

import threading
import time

import pytest

from antcache.errors import UnreadableVideo
from antcache.predict.live.mailbox import Mailbox


def test_the_newest_are_taken_in_order_and_the_others_counted() -> None:
    box: Mailbox[int] = Mailbox(room=4)
    for number in range(10):
        box.put(number)
    assert (box.put_in, box.dropped) == (10, 6)
    assert box.take(3, 0) == [7, 8, 9]
    assert (box.put_in, box.dropped) == (10, 7)
    assert box.take(3, 0) == []
    box.put(10)
    box.put(11)
    assert box.take(9, 0) == [10, 11]
    assert box.dropped == 7


def test_what_waits_is_taken_before_the_end() -> None:
    box: Mailbox[int] = Mailbox(room=4)
    box.put(1)
    box.end()
    assert box.take(1, 0) == [1]
    assert box.take(1, 0) is None
    assert box.take(1, 0) is None


def test_an_error_comes_after_what_was_read_before_it() -> None:
    box: Mailbox[int] = Mailbox(room=4)
    box.put(1)
    box.end(UnreadableVideo("it broke off"))
    assert box.take(1, 0) == [1]
    with pytest.raises(UnreadableVideo, match="it broke off"):
        box.take(1, 0)


def test_putting_never_waits_and_taking_does() -> None:
    box: Mailbox[int] = Mailbox(room=2)
    seen: list[int] = []

    def work() -> None:
        while (taken := box.take(1, 10)) is not None:
            seen.extend(taken)
            time.sleep(0.01)

    thread = threading.Thread(target=work)
    thread.start()
    for number in range(200):
        box.put(number)
    box.end()
    thread.join(10)
    assert not thread.is_alive()
    assert seen == sorted(seen)
    assert seen[-1] == 199
    assert len(seen) + box.dropped == 200
