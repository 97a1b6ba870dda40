"""Where a thread that reads leaves what it has, and who is slower takes the newest of it.

Promise: putting something in never waits; at most `room` things wait, and what has to make way for
newer ones is the oldest, which is counted. What is taken is in the order in which it came.
"""

from __future__ import annotations

import threading
from collections import deque
from typing import Generic, TypeVar

Item = TypeVar("Item")


class Mailbox(Generic[Item]):
    """A bounded row of things between two threads.

    Args:
        room: how many wait, at most.

    Attributes:
        put_in: how many were put in so far.
        dropped: how many of them nobody took, because newer ones came.
    """

    def __init__(self, room: int) -> None:
        assert room >= 1
        self._waiting: deque[Item] = deque()
        self._room = room
        self._changed = threading.Condition()
        self._ended = False
        self._error: BaseException | None = None
        self.put_in = 0
        self.dropped = 0

    def put(self, item: Item) -> None:
        """Leave something; the oldest makes way where there is no room."""
        with self._changed:
            self._waiting.append(item)
            self.put_in += 1
            self._keep(self._room)
            self._changed.notify()

    def end(self, error: BaseException | None = None) -> None:
        """Say that nothing more comes, and why if that is no ordinary end."""
        with self._changed:
            self._ended, self._error = True, error
            self._changed.notify()

    def take(self, most: int, timeout_s: float) -> list[Item] | None:
        """The newest things, in order; those before them are dropped.

        Waits for one at most `timeout_s` seconds, after which there is none: an empty list. None:
        all was taken, and nothing more comes.

        Args:
            most: how many are taken, at most.
            timeout_s: how long to wait.

        Raises:
            BaseException: what `end` was told, once all that waited is taken.
        """
        with self._changed:
            self._changed.wait_for(lambda: self._waiting or self._ended, timeout_s)
            self._keep(most)
            taken = list(self._waiting)
            self._waiting.clear()
            if taken or not self._ended:
                return taken
            if self._error is not None:
                raise self._error
            return None

    def _keep(self, most: int) -> None:
        while len(self._waiting) > most:
            self._waiting.popleft()
            self.dropped += 1
