"""How long work reports on itself without printing: a callback that the command line draws.

Promise: library functions call `progress(label, done, total)` with growing `done`; units are the
caller's (videos, frames, epochs). `silent` ignores it.
"""

from __future__ import annotations

from collections.abc import Callable

Progress = Callable[[str, float, float], None]


def silent(label: str, done: float, total: float) -> None:
    """Report nothing."""
