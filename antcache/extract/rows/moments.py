"""Times at which the windows of labelled segments end: where rows are needed, and nowhere else.

Promise: a time for each segment, anchor and gap, `anchor time - gap`, by the arithmetic that reads
rows; times that are equal, up to float error, are one. Nothing is asked of a video: whether a time
lies in it is known when it is decoded.
Letters: S segments, R rows of a video.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import product

import numpy as np
from numpy.typing import NDArray

from antcache.annotations import Segments
from antcache.annotations.protocols import reference_times
from antcache.extract.videos.decode import TOLERANCE_S

Times = NDArray[np.float64]
"""Seconds (R,), ascending."""


def window_times(
    splits: Iterable[Segments], *, anchors: Sequence[float], gaps: Sequence[float]
) -> dict[str, Times]:
    """Times by video, of the segments (S) of some splits.

    Args:
        splits: the segments.
        anchors: parts of a segment that gaps are counted from: 0 is its start, 1 its end.
        gaps: seconds before an anchor.
    """
    found: dict[str, list[Times]] = {}
    for segments in splits:
        times = np.stack(
            [
                reference_times(segments.start_s, segments.stop_s, anchor) - gap
                for anchor, gap in product(anchors, gaps)
            ],
            axis=1,
        )
        for video in segments.videos:
            found.setdefault(video, []).append(times[segments.video == video].ravel())
    return {video: _distinct(np.concatenate(found[video])) for video in sorted(found)}


def within(times: Times, first_s: float, last_s: float) -> tuple[Times, int, int]:
    """Those times that lie in a video, and how many lie before its first frame and after its last.

    Args:
        times: (R,).
        first_s: time of its first frame in seconds.
        last_s: time of its last frame.
    """
    early, late = times < first_s - TOLERANCE_S, times > last_s + TOLERANCE_S
    return times[~early & ~late], int(early.sum()), int(late.sum())


def lacking(times: Times, there: Times) -> Times:
    """Those times of which there is no row among the rows at `there` (any number)."""
    if not len(there):
        return times
    place = np.minimum(np.searchsorted(there, times - TOLERANCE_S), len(there) - 1)
    return times[np.abs(there[place] - times) > TOLERANCE_S]


def _distinct(times: Times) -> Times:
    ascending = np.sort(times)
    return ascending[np.diff(ascending, prepend=-np.inf) > TOLERANCE_S]
