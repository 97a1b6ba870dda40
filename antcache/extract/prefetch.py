"""A generator that runs ahead in a thread of its own, so that decoding overlaps the backbone.

Promise: the order is kept, at most `depth` items wait, exceptions arrive where the item would have,
and the thread has ended when the generator is closed, whatever closed it.
"""

from __future__ import annotations

import queue
import threading
from collections.abc import Generator
from contextlib import closing, suppress
from typing import TypeVar

Item = TypeVar("Item")


def prefetch(items: Generator[Item, None, None], depth: int) -> Generator[Item, None, None]:
    """The same items, made by a background thread that is at most `depth` ahead.

    What `items` raises is raised here, in its place. Closing this generator, or an exception in it
    (Ctrl-C), closes `items` in its thread and ends the thread.
    """
    ready: queue.Queue[Item | _End] = queue.Queue(depth)
    stopped = threading.Event()

    def put(item: Item | _End) -> None:
        while not stopped.is_set():
            with suppress(queue.Full):
                ready.put(item, timeout=0.05)
                return

    def work() -> None:
        try:
            with closing(items):
                for item in items:
                    put(item)
                    if stopped.is_set():
                        return
        except BaseException as error:
            put(_End(error))
        else:
            put(_End(None))

    thread = threading.Thread(target=work, name="antcache-prefetch", daemon=True)
    thread.start()
    try:
        while not isinstance(item := ready.get(), _End):
            yield item
        if item.error is not None:
            raise item.error
    finally:
        stopped.set()
        thread.join()


class _End:
    """What comes after the last item, with the error that ended them."""

    def __init__(self, error: BaseException | None) -> None:
        self.error = error
