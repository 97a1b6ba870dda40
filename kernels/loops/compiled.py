"""Compilation by numba: said while it goes on, and kept for the processes to come.

Promise: who waits is told why, once; where numba finds a folder to write to (beside the code, else
the user's own, or `NUMBA_CACHE_DIR`), no later process waits. What is kept is used only with the
text it was made of: numba itself looks at the file of the outermost function, `digest` at the rest.
"""

from __future__ import annotations

import hashlib
import inspect
import logging
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from types import ModuleType
from typing import Any

from numba import njit
from numba.core.event import Event, Listener, install_listener

logger = logging.getLogger(__name__)


inner = partial(njit, no_cpython_wrapper=True, no_cfunc_wrapper=True)
"""`njit` for what compiled code alone calls: without what Python or C would call it by, which would
take time to compile."""


def keep(function: Callable[..., Any], **options: Any) -> Any:
    """`njit`: compile when first called, and keep the result where there is a folder for it."""
    try:
        return njit(cache=True, **options)(function)
    except RuntimeError:  # numba has found no folder for its cache
        return njit(**options)(function)


def digest(*modules: ModuleType) -> str:
    """What changes with the text of these modules.

    A function that closes over it is found in numba's cache by it.
    """
    try:
        texts = [inspect.getsource(module) for module in modules]
    except OSError:  # installed without its text: then numba keeps nothing either
        return ""
    return hashlib.sha256("\0".join(texts).encode()).hexdigest()


def told(function: Any, what: str, *, seconds: float) -> AbstractContextManager[Any]:
    """Log that `what` is compiled, and about how long that takes, should `function` be in here."""
    if function.signatures:
        return nullcontext()
    listener: AbstractContextManager[Any] = install_listener(
        "numba:compile", _Compilation(function, what, seconds)
    )
    return listener


class _Compilation(Listener):  # type: ignore[misc]
    """Logs when numba begins to compile a function, which it does not where it has kept it."""

    def __init__(self, function: Any, what: str, seconds: float) -> None:
        self.function, self.what, self.seconds = function, what, seconds

    def on_start(self, event: Event) -> None:
        """Say it before the wait."""
        if event.data["dispatcher"] is not self.function:
            return  # what it calls
        once = "this once"
        if self.function.stats.cache_path is None:
            once = "in every process: no folder to keep it in, NUMBA_CACHE_DIR may name one"
        message = "compiling %s for this processor: about %g s, %s"
        logger.warning(message, self.what, self.seconds, once)

    def on_end(self, event: Event) -> None:
        """Nothing more."""
