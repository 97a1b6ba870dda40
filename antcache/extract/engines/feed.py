"""What crosses from several decoders to one backbone, in one queue.

Promise: what waits is bounded in bytes, whatever its shape; so many items always fit as are used at
once. The order of each decoder is kept. Once it is closed nobody waits for it any more.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from typing import Generic, TypeVar

Item = TypeVar("Item")


class Closed(Exception):
    """Nobody takes any more items."""


class Feed(Generic[Item]):
    """A queue of items of many sizes.

    Args:
        most_bytes: how much may wait, or
        at_once: how many items that have a size, if these are more.
    """

    def __init__(self, most_bytes: int, at_once: int = 1) -> None:
        self._most, self._at_once = most_bytes, at_once
        self._bytes = self._sized = 0
        self._items: deque[tuple[Item, int]] = deque()
        self._changed = threading.Condition()
        self.closed = False

    def put(self, item: Item, size: int = 0) -> float:
        """Append an item of `size` bytes once there is room; seconds that it took.

        Raises:
            Closed: nobody takes it.
        """
        began = time.perf_counter()
        with self._changed:
            while size and not (self._fits(size) or self.closed):
                self._changed.wait()
            self.require_open()
            self._items.append((item, size))
            self._bytes += size
            self._sized += size > 0
            self._changed.notify_all()
        return time.perf_counter() - began

    def _fits(self, size: int) -> bool:
        return self._sized < self._at_once or self._bytes + size <= self._most

    def require_open(self) -> None:
        """Raise `Closed` if nobody takes items any more."""
        if self.closed:
            raise Closed

    def get(self) -> Item:
        """The oldest item, which is waited for."""
        with self._changed:
            while not self._items:
                self._changed.wait()
            item, size = self._items.popleft()
            self._bytes -= size
            self._sized -= size > 0
            self._changed.notify_all()
            return item

    def close(self) -> list[Item]:
        """Let go of whoever waits to put more; what was not taken."""
        with self._changed:
            self.closed = True
            left = [item for item, _ in self._items]
            self._items.clear()
            self._bytes = self._sized = 0
            self._changed.notify_all()
            return left
