"""The doctor: whether a store can serve a protocol, and what is odd about it.

`examine` is the way in, `DoctorConfig` says what is looked at, `DoctorReport` what is said.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from antcache.exports import lazy_exports

if TYPE_CHECKING:
    from antcache.doctor.examination import DoctorConfig, examine
    from antcache.doctor.report import (
        DoctorReport,
        Finding,
        SplitReport,
        StreamReport,
        TargetReport,
        VideoNeed,
    )

__all__ = [
    "DoctorConfig",
    "DoctorReport",
    "Finding",
    "SplitReport",
    "StreamReport",
    "TargetReport",
    "VideoNeed",
    "examine",
]

__getattr__, __dir__ = lazy_exports(
    __name__,
    {
        "examination": "DoctorConfig examine",
        "report": "DoctorReport Finding SplitReport StreamReport TargetReport VideoNeed",
    },
)
