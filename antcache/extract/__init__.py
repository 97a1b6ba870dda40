"""Videos in, features out: decode, embed with a frozen vision model, store. Once.

Promise: what loads PyTorch is imported when it is asked for, so that videos are found without it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from antcache.exports import lazy_exports
from antcache.extract.shards import VideoShard
from antcache.extract.sources.config import SourceConfig
from antcache.extract.sources.finding import find_videos
from antcache.extract.videos.finding import Videos
from antcache.store.local.ledger import Failure, Ledger

if TYPE_CHECKING:
    from antcache.extract.backbone import Backbone, load_backbone
    from antcache.extract.config import ExtractConfig
    from antcache.extract.engines.call import extract_video
    from antcache.extract.own import OwnBackbone, TriedBackbone
    from antcache.extract.plan import Plan, check_settings, make_plan
    from antcache.extract.run import ExtractReport, extract

__all__ = [
    "Backbone",
    "ExtractConfig",
    "ExtractReport",
    "Failure",
    "Ledger",
    "OwnBackbone",
    "Plan",
    "SourceConfig",
    "TriedBackbone",
    "VideoShard",
    "Videos",
    "check_settings",
    "extract",
    "extract_video",
    "find_videos",
    "load_backbone",
    "make_plan",
]

__getattr__, __dir__ = lazy_exports(
    __name__,
    {
        "backbone": "Backbone load_backbone",
        "own": "OwnBackbone TriedBackbone",
        "config": "ExtractConfig",
        "engines.call": "extract_video",
        "plan": "Plan check_settings make_plan",
        "run": "ExtractReport extract",
    },
)
