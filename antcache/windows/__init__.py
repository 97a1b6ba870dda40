"""Windows: which rows of its features each segment is anticipated from, and what is known of it.

What says which windows there are is numpy alone (`split` and all that it imports, `target_rows`);
what holds their features and soft targets needs torch (`dataset`, `reading`,
`teacher_targets`). Nothing here knows of students or their settings: training, prediction and the
doctor make their windows here.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from antcache.exports import lazy_exports

if TYPE_CHECKING:
    from antcache.windows.dataset import Batch, Sample, Windows
    from antcache.windows.index import WindowIndex
    from antcache.windows.labels import WindowLabels
    from antcache.windows.load import load_windows
    from antcache.windows.reading.lazy import LazyFeatures
    from antcache.windows.reading.pack import PackedFeatures
    from antcache.windows.split import SplitWindows, split_windows
    from antcache.windows.teacher_targets import TeacherTargets

__all__ = [
    "Batch",
    "LazyFeatures",
    "PackedFeatures",
    "Sample",
    "SplitWindows",
    "TeacherTargets",
    "WindowIndex",
    "WindowLabels",
    "Windows",
    "load_windows",
    "split_windows",
]

__getattr__, __dir__ = lazy_exports(
    __name__,
    {
        "dataset": "Batch Sample Windows",
        "index": "WindowIndex",
        "labels": "WindowLabels",
        "reading.lazy": "LazyFeatures",
        "load": "load_windows",
        "reading.pack": "PackedFeatures",
        "split": "SplitWindows split_windows",
        "teacher_targets": "TeacherTargets",
    },
)
