"""Where segments have their soft targets in one set or several: uids are looked up here, once.

Promise: pure numpy; a segment that a set does not contain is told from one that it calls not valid.
Letters: N segments, M sets.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from antcache.annotations import locate


@dataclass(frozen=True, kw_only=True)
class TargetRows:
    """Where each of N segments is in each of M sets.

    Attributes:
        rows: (M, N) int64 row of each segment in each set, -1 where the set does not contain it.
        has: (N,) bool, whether every set has a valid target for the segment.
    """

    rows: NDArray[np.int64]
    has: NDArray[np.bool_]

    @classmethod
    def of(
        cls, sets: Sequence[tuple[NDArray[np.str_], NDArray[np.bool_]]], uids: NDArray[np.str_]
    ) -> TargetRows:
        """Look the segments `uids` (N,) up in sets of `uid` and `valid`, of equal length each."""
        rows = np.stack([locate(uid, uids) for uid, _ in sets])
        has = np.ones(len(uids), dtype=bool)
        for own, (_, valid) in zip(rows, sets, strict=True):
            there = own >= 0
            has[there] &= valid[own[there]]
            has &= there
        return cls(rows=rows, has=has)

    @property
    def absent(self) -> NDArray[np.bool_]:
        """(N,) whether a set does not contain the segment."""
        return np.asarray((self.rows < 0).any(axis=0))

    def counts(self) -> dict[str, int]:
        """How many segments are found, absent from a set, or not valid in one, JSON-ready."""
        absent = self.absent
        return {
            "found": int(self.has.sum()),
            "absent": int(absent.sum()),
            "not_valid": int((~self.has & ~absent).sum()),
        }
