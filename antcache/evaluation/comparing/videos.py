"""What each video gains: the chance of videos that the intervals stand for, one by one.

Promise: every video with a segment that counts is there, and the segments add up to N. Letters: N
segments.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from antcache.annotations import Segments
from antcache.evaluation.comparing.systems import System

KS = (1, 5)


@dataclass(frozen=True, kw_only=True)
class VideoChange:
    """One video, percent, means over the runs.

    Attributes:
        video: its name.
        n: segments that count.
        a: top-1 of A.
        b: top-1 of B.
        gain: b - a.
        a5: top-5 of A.
        b5: top-5 of B.
        gain5: b5 - a5.
    """

    video: str
    n: int
    a: float
    b: float
    gain: float
    a5: float
    b5: float
    gain5: float


def by_video(
    a: Sequence[System], b: Sequence[System], segments: Segments
) -> tuple[VideoChange, ...]:
    """Every video, the largest gain in top-1 first, then the most segments."""
    names, place, n = np.unique(segments.video, return_inverse=True, return_counts=True)
    # Whole numbers over all runs, so that equal counts give a gain of exactly zero.
    hits = [
        [sum(np.bincount(place[s.right(k)], minlength=len(names)) for s in side) for side in (a, b)]
        for k in KS
    ]
    whole = n * len(a)
    (a1, b1), (a5, b5) = ([100.0 * own / whole for own in of_k] for of_k in hits)
    gain, gain5 = (100.0 * (own[1] - own[0]) / whole for own in hits)
    return tuple(
        VideoChange(
            video=str(names[i]),
            n=int(n[i]),
            a=float(a1[i]),
            b=float(b1[i]),
            gain=float(gain[i]),
            a5=float(a5[i]),
            b5=float(b5[i]),
            gain5=float(gain5[i]),
        )
        for i in np.lexsort([names, -n, -gain])
    )
