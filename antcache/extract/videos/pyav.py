"""PyAV, which decodes.

Promise: where it is missing, the error says which extra of ours brings it.
"""

from __future__ import annotations

from antcache.errors import needs

with needs("av", "extract"):
    import av

__all__ = ["av"]
