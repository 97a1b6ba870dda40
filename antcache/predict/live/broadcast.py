"""What goes to all pages that are open, each at its own pace.

Promise: telling never waits, from any thread. A page that is slow misses what it has no time for
and gets the newest; a page that comes later gets what was kept of before. Nothing queues up.
"""

from __future__ import annotations

import asyncio
import json
import threading
from collections import deque
from collections.abc import AsyncIterator
from typing import Any

KEPT = 120
"""Messages that a page which comes later is given."""

MOST_PAGES = 32
"""Pages that are open at the same time."""

SILENT_S = 10.0
"""After how long without news a page is told that there is none: its connection stays open."""


class Broadcast:
    """Messages for pages, as server-sent events.

    Args:
        about: what a page is told first.
    """

    def __init__(self, about: dict[str, Any]) -> None:
        self._about = about
        self._lock = threading.Lock()
        self._kept: deque[dict[str, Any]] = deque(maxlen=KEPT)
        self._told = 0
        self._end: dict[str, Any] | None = None
        self._pages: set[tuple[asyncio.AbstractEventLoop, asyncio.Event]] = set()

    @property
    def is_full(self) -> bool:
        """Whether there is no place for another page."""
        with self._lock:
            return len(self._pages) >= MOST_PAGES

    def tell(self, message: dict[str, Any]) -> None:
        """Give all pages a message."""
        with self._lock:
            self._kept.append(message)
            self._told += 1
        self._wake()

    def end(self, message: dict[str, Any]) -> None:
        """Give all pages a last message, and let them go."""
        with self._lock:
            self._end = message
        self._wake()

    async def events(self) -> AsyncIterator[str]:
        """What one page is sent: `about` with what was kept, then `answer` each time, then `end`.

        To be run in the loop of the server.
        """
        news = asyncio.Event()
        page = asyncio.get_running_loop(), news
        with self._lock:
            self._pages.add(page)
            told, past = self._told, list(self._kept)
        try:
            yield _event("about", self._about | {"past": past})
            while True:
                news.clear()
                with self._lock:
                    newest = self._kept[-1] if self._told > told else None
                    told, end = self._told, self._end
                if newest is not None:
                    yield _event("answer", newest)
                if end is not None:
                    yield _event("end", end)
                    return
                try:
                    await asyncio.wait_for(news.wait(), SILENT_S)
                except TimeoutError:
                    yield ": nothing new\n\n"
        finally:
            with self._lock:
                self._pages.discard(page)

    def _wake(self) -> None:
        with self._lock:
            pages = list(self._pages)
        for loop, news in pages:
            if not loop.is_closed():
                loop.call_soon_threadsafe(news.set)


def _event(kind: str, data: dict[str, Any]) -> str:
    """An event in the form of `text/event-stream`; JSON of ASCII has no line breaks."""
    return f"event: {kind}\ndata: {json.dumps(data, allow_nan=False)}\n\n"
