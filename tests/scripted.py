"""Segments of one video from a few numbers, and those of several as one."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from antcache.annotations import Segments, Taxonomy


def segments_of(
    taxonomy: Taxonomy,
    video: str,
    starts: Sequence[float],
    actions: Sequence[int] | None = None,
    stops: Sequence[float] | None = None,
    prefix: str = "",
) -> Segments:
    """Segments of one video from starts and actions; each lasts 1 s unless stops are given."""
    action = np.zeros(len(starts), int) if actions is None else np.asarray(actions)
    start = np.asarray(starts, dtype=float)
    return Segments.of(
        uid=[f"{prefix}{video}-{i}" for i in range(len(start))],
        video=[video] * len(start),
        start_s=start,
        stop_s=start + 1 if stops is None else stops,
        verb=taxonomy.verb_of[action],
        noun=taxonomy.noun_of[action],
        action=action,
    )


def joined(parts: Sequence[Segments]) -> Segments:
    """Segments of several videos as one."""
    names = parts[0].arrays()
    return Segments.of(**{n: np.concatenate([getattr(p, n) for p in parts]) for n in names})
