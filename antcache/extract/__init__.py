"""Videos in, features out: decode, embed with a frozen vision model, store. Once.

Promise: what loads PyTorch is imported when it is asked for, so that videos are found without it.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from antcache.extract.videos.finding import Videos, find_videos

if TYPE_CHECKING:
    from antcache.extract.backbone import Backbone, load_backbone
    from antcache.extract.ledger import Failure, Ledger
    from antcache.extract.run import (
        ExtractConfig,
        ExtractReport,
        Plan,
        check_settings,
        extract,
        make_plan,
    )

__all__ = [
    "Backbone",
    "ExtractConfig",
    "ExtractReport",
    "Failure",
    "Ledger",
    "Plan",
    "Videos",
    "check_settings",
    "extract",
    "find_videos",
    "load_backbone",
    "make_plan",
]

_HOMES = {"Backbone": "backbone", "load_backbone": "backbone", "Failure": "ledger"}
_HOMES |= {"Ledger": "ledger"}


def __getattr__(name: str) -> Any:
    """Import what is asked for from its module."""
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_HOMES.get(name, 'run')}"), name)
