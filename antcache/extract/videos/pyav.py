"""PyAV, which decodes.

Promise: where it is missing, the error says which extra of ours brings it.
"""

from __future__ import annotations

from contextvars import ContextVar
from typing import Any

from antcache.errors import needs

with needs("av", "extract"):
    import av

__all__ = ["CODEC_THREADS", "ONE_THREAD", "av"]

ONE_THREAD: dict[str, Any] = {"threads": 1} if int(av.__version__.split(".")[0]) >= 17 else {}
"""Options of a conversion. PyAV, from 17 on, starts as many threads as there are cores for each
frame, and they live as long as the frame: that is slower where several decode, and a process that
was forked meanwhile crashes when it lets the frame go."""

CODEC_THREADS: ContextVar[int] = ContextVar("CODEC_THREADS", default=0)
"""Threads that one decoder of FFmpeg has, for whoever runs several at once; 0: one per core."""
