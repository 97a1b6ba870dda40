"""What a command says while it works, to those who read stderr from a pipe or a log file.

Promise: progress is one plain line for each video and each epoch, and otherwise one a minute; a
warning of the library is one line, once, at once. Nothing here moves a cursor.
"""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable

from antcache.cli.command import handler

COUNTED = ("videos", "epochs")
"""Last words of the labels whose every unit gets a line."""
EVERY_S = 60.0


class ProgressLines:
    """A progress callback that says lines.

    Args:
        say: prints one line.
        now: seconds that only grow.
    """

    def __init__(
        self, say: Callable[[str], None], now: Callable[[], float] = time.monotonic
    ) -> None:
        self._say, self._now = say, now
        self._said: dict[str, tuple[int, float]] = {}
        self._last = now()

    def __call__(self, label: str, done: float, total: float) -> None:
        """Say how far `label` is, if a unit that counts is done or a minute is over."""
        if label.endswith(COUNTED):
            units = math.floor(done)
            if units == 0 or self._said.get(label) == (units, total):
                return
            self._said[label] = (units, total)
        elif self._now() - self._last < EVERY_S:
            return
        self._last = self._now()
        self._say(f"progress: {label} {done:.10g} of {total:.10g}")


def echo(say: Callable[[str], None]) -> logging.Handler:
    """Says each warning once, without time and place; what is worse, a command reports itself."""
    seen: set[str] = set()

    def once(record: logging.LogRecord) -> None:
        text = record.getMessage()
        if record.levelno == logging.WARNING and text not in seen:
            seen.add(text)
            say(f"Warning: {text}")

    return handler(once, logging.WARNING)
