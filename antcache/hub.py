"""Manners of transformers' models: no reports and bars on stderr, and errors in one line.

Promise: what `quiet` changes is as it was afterwards. transformers is the caller's to import.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any


@contextmanager
def quiet(transformers: Any) -> Iterator[None]:
    """Keep the package `transformers` from writing reports and bars, and restore that after."""
    log = transformers.utils.logging
    level, bars = log.get_verbosity(), log.is_progress_bar_enabled()
    log.set_verbosity_error()
    log.disable_progress_bar()
    try:
        yield
    finally:
        log.set_verbosity(level)
        if bars:
            log.enable_progress_bar()


def first_line(error: BaseException) -> str:
    """The first line of an error's text that is not blank: transformers' own take many."""
    return next((line.strip() for line in str(error).splitlines() if line.strip()), "")
