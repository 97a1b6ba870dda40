"""Videos in, features out: decode, embed with a frozen vision model, store. Once."""

from antcache.extract.backbone import Backbone, load_backbone
from antcache.extract.finding import Videos, find_videos
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
