"""Writes down which lines of a tree run: in this process, its threads, and those it forks.

Promise: each line of a function is written once per process, at once, so that a killed process has
told what it did. Lines at the top of a module or class are not: they run wherever it is imported.
It needs no package but Python, for it also runs in whatever processes tests start.
"""

from __future__ import annotations

import os
import sys
import threading
from inspect import CO_OPTIMIZED
from types import FrameType
from typing import Any

WHERE, ROOTS = "MUTATION_LINES", "MUTATION_ROOTS"
"""Environment: the file to write to, and the folders whose files count."""


def start() -> None:
    """Begin, if the environment asks for it."""
    if WHERE not in os.environ:
        return
    roots = tuple(os.environ[ROOTS].split(os.pathsep))
    out = os.open(os.environ[WHERE], os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    seen: set[tuple[str, int]] = set()

    def line(frame: FrameType, event: str, _: Any) -> Any:
        place = frame.f_code.co_filename, frame.f_lineno
        if place not in seen:
            seen.add(place)
            os.write(out, f"{place[0]}:{place[1]}\n".encode())
        return line

    def call(frame: FrameType, event: str, _: Any) -> Any:
        code = frame.f_code
        is_function = code.co_flags & CO_OPTIMIZED
        return line if is_function and code.co_filename.startswith(roots) else None

    sys.settrace(call)
    threading.settrace(call)
