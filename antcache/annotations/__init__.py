"""Annotations: taxonomy, segments, protocols, and one reader per published form."""

from antcache.annotations.dataset import Dataset, Oddities, count_oddities
from antcache.annotations.protocols import (
    PROTOCOLS,
    Protocol,
    WindowFrames,
    protocol_for,
    sample_windows,
)
from antcache.annotations.readers import READERS, Reader, read_annotations
from antcache.annotations.segments import Segments, locate
from antcache.annotations.taxonomy import Taxonomy
from antcache.annotations.video_names import match_segments, match_videos

__all__ = [
    "PROTOCOLS",
    "READERS",
    "Dataset",
    "Oddities",
    "Protocol",
    "Reader",
    "Segments",
    "Taxonomy",
    "WindowFrames",
    "count_oddities",
    "locate",
    "match_segments",
    "match_videos",
    "protocol_for",
    "read_annotations",
    "sample_windows",
]
