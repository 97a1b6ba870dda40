"""For who writes parts of their own: what antcache's own parts are tested by. Needs pytest."""

from antcache.testing.contract import (
    ODD_NAMES,
    SEGMENTS,
    TAXONOMY,
    VIDEO_NAMES,
    StoreContract,
    add_stream,
    soft_targets,
)

__all__ = [
    "ODD_NAMES",
    "SEGMENTS",
    "TAXONOMY",
    "VIDEO_NAMES",
    "StoreContract",
    "add_stream",
    "soft_targets",
]
