"""PyAV, which decodes.

Promise: where it is missing, the error says which extra of ours brings it.
"""

from __future__ import annotations

from antcache.errors import MissingExtra

try:
    import av
except ImportError as error:
    raise MissingExtra("av", "extract") from error

__all__ = ["av"]
