"""What a command says while it works, to those who read stderr from a pipe or a log file.

Promise: progress is one plain line for each video and each epoch, and otherwise one a minute, with
the time left once that can be told; a warning of the library is one line, once, at once. Nothing
here moves a cursor.
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
        self._begun: dict[str, tuple[float, float]] = {}
        self._left: dict[str, str] = {}

    def __call__(self, label: str, done: float, total: float) -> None:
        """Say how far `label` is, if a unit that counts is done or a minute is over."""
        if label.endswith(COUNTED):
            units = math.floor(done)
            if units == 0 or self._said.get(label) == (units, total):
                return
            self._said[label] = (units, total)
        else:
            self._estimate(label, done, total)
            if self._now() - self._last < EVERY_S:
                return
        self._last = self._now()
        left = self._left.get(_whose(label), "")
        self._say(f"progress: {label} {done:.10g} of {total:.10g}{left}")

    def _estimate(self, label: str, done: float, total: float) -> None:
        """Keep how long is left, by what is finer than videos and epochs."""
        now = self._now()
        since, before = self._begun.setdefault(label, (now, done))
        if done < before:  # it has begun anew
            self._begun[label] = now, done
        elif now > since and done > before:
            seconds = (now - since) * (total - done) / (done - before)
            self._left[_whose(label)] = f", {duration(seconds)} left"


def duration(seconds: float) -> str:
    """About how long something takes, in two or three words."""
    if seconds < 90:
        return f"about {seconds:.0f} s"
    return f"about {seconds / 60:.0f} min" if seconds < 5400 else f"about {seconds / 3600:.1f} h"


def _whose(label: str) -> str:
    """What stands before the last word of a label: of which part of the work it speaks."""
    return label.rpartition(": ")[0]


def echo(say: Callable[[str], None]) -> logging.Handler:
    """Says each warning once, without time and place; what is worse, a command reports itself."""
    seen: set[str] = set()

    def once(record: logging.LogRecord) -> None:
        text = record.getMessage()
        if record.levelno == logging.WARNING and text not in seen:
            seen.add(text)
            say(f"Warning: {text}")

    return handler(once, logging.WARNING)
