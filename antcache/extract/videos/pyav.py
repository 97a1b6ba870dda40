"""PyAV, which decodes.

Promise: where it is missing, the error says which extra of ours brings it.
"""

from __future__ import annotations

from contextvars import ContextVar

from antcache.errors import needs

with needs("av", "extract"):
    import av

__all__ = ["CODEC_THREADS", "av"]

CODEC_THREADS: ContextVar[int] = ContextVar("CODEC_THREADS", default=0)
"""Threads that one decoder of FFmpeg has, for whoever runs several at once; 0: one per core."""
