"""Histories: for every segment, the last h segments of its video that came before it.

Promise: built once per dataset with a sort and a binary search per video, and no history ever holds
a segment that starts at or after the one it belongs to. What counts as having come before:

- `complete`: every segment of the same video, of any split, that starts strictly earlier. An action
  that begins at the same instant is not earlier.
- `observed`: of these, the ones that began no later than `start - gap_s` (a start exactly on that
  boundary is observed; see `antcache.timebase` for the tolerance).
- `gappy`: as complete, but only segments of the same split. EGTEA Gaze+ splits cut through videos,
  so such a history misses what the other split holds.

Within a history, segments are in order of start; of two that start together, the one that stops
first is the older, and of two with equal times, the one that comes first in its annotation file.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from antcache.annotations import Segments, Taxonomy
from antcache.annotations.segments import COLUMNS
from antcache.errors import BadAnnotations, BadConfig
from antcache.timebase import ANNOTATION_FPS, BOUNDARY

MODES = ("complete", "observed", "gappy")
TOLERANCE_S = BOUNDARY / ANNOTATION_FPS


@dataclass(frozen=True, kw_only=True)
class HistoryConfig:
    """Which earlier segments a teacher is told about."""

    mode: str = "complete"
    """One of `MODES`."""
    gap_s: float = 1.0
    """Anticipation gap tau_a in seconds; only `observed` depends on it."""

    def __post_init__(self) -> None:
        if self.mode not in MODES:
            raise BadConfig("unknown history", expected=" or ".join(MODES), found=self.mode)
        if not 0 <= self.gap_s < float("inf"):
            raise BadConfig("impossible gap", expected="seconds, 0 or more", found=self.gap_s)


@dataclass(frozen=True, kw_only=True)
class Examples:
    """What teachers see, whether it comes from videos or from text: N histories and what came next.

    Attributes:
        history: (N, h) int64 action ids, oldest first, -1 on the left where there is nothing.
        target: (N,) int64, the action that came next.
        group: (N,) int64, equal for the examples of one video (or script); whatever is held out
            is held out by group.
    """

    history: NDArray[np.int64]
    target: NDArray[np.int64]
    group: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.target)

    def __getitem__(self, rows: NDArray[np.int64] | NDArray[np.bool_] | slice) -> Examples:
        """The examples at `rows` (indices, a mask or a slice)."""
        return Examples(
            history=self.history[rows], target=self.target[rows], group=self.group[rows]
        )

    def folds(self, count: int, seed: int = 0) -> NDArray[np.int64]:
        """Fold (N,) of each example: `count` folds of whole groups, of about equal size.

        Groups are drawn in random order, each into the fold that is smallest so far.

        Raises:
            BadConfig: there are fewer groups than folds, or fewer than 2 folds.
        """
        groups, member, sizes = np.unique(self.group, return_inverse=True, return_counts=True)
        if not 2 <= count <= len(groups):
            raise BadConfig(
                "impossible number of folds", expected=f"2 to {len(groups)} (videos)", found=count
            )
        fold = np.empty(len(groups), dtype=np.int64)
        filled = np.zeros(count, dtype=np.int64)
        for group in np.random.default_rng(seed).permutation(len(groups)):
            fold[group] = filled.argmin()
            filled[fold[group]] += sizes[group]
        return fold[member]


def concatenate(parts: Sequence[Examples]) -> Examples:
    """All examples of `parts`, whose histories are equally long; no two parts share a group."""
    offsets = np.cumsum([0, *(int(p.group.max(initial=-1)) + 1 for p in parts[:-1])])
    return Examples(
        history=np.concatenate([p.history for p in parts]),
        target=np.concatenate([p.target for p in parts]),
        group=np.concatenate([p.group + o for p, o in zip(parts, offsets, strict=True)]),
    )


@dataclass(frozen=True, kw_only=True)
class Timeline:
    """The segments of several splits of one dataset in one table.

    Attributes:
        taxonomy: their classes.
        segments: N segments, split after split, each in the order of its file.
        split: (N,) str, the split of each.
    """

    taxonomy: Taxonomy
    segments: Segments
    split: NDArray[np.str_]

    @classmethod
    def of(cls, splits: Mapping[str, Segments], taxonomy: Taxonomy) -> Timeline:
        """One table of all `splits`.

        Raises:
            BadAnnotations: two splits hold the same uid.
        """
        columns = {
            name: np.concatenate([getattr(s, name) for s in splits.values()]) for name in COLUMNS
        }
        segments = Segments(**columns)
        uids, counts = np.unique(segments.uid, return_counts=True)
        if (counts > 1).any():
            raise BadAnnotations(
                "the same uid is in two splits",
                where=f"splits {', '.join(splits)}",
                found=uids[counts > 1][0],
                hint="choose splits that do not overlap",
            )
        split = np.repeat(np.array(list(splits), dtype=np.str_), [len(s) for s in splits.values()])
        return cls(taxonomy=taxonomy, segments=segments, split=split)

    @property
    def video_ids(self) -> NDArray[np.int64]:
        """Number (N,) of each segment's video."""
        return np.unique(self.segments.video, return_inverse=True)[1].astype(np.int64)

    def history_rows(self, config: HistoryConfig, length: int) -> NDArray[np.int64]:
        """Rows (N, h) of the last h = `length` segments of each segment's history; see the module.

        Oldest first; -1 on the left where there are fewer.
        """
        segments = self.segments
        group = self.video_ids
        if config.mode == "gappy":
            part = np.unique(self.split, return_inverse=True)[1]
            group = group * (part.max(initial=0) + 1) + part
        order = np.lexsort((segments.stop_s, segments.start_s, group))  # stable: then by row
        first = np.flatnonzero(np.diff(group[order], prepend=-1))
        limit = segments.start_s - TOLERANCE_S  # a start below it is strictly earlier
        if config.mode == "observed":
            # A start on the boundary is observed, so the tolerance turns round; `min` keeps the
            # strict rule where the gap is 0.
            limit = np.minimum(limit, segments.start_s - config.gap_s + TOLERANCE_S)
        rows = np.full((len(segments), length), -1, dtype=np.int64)
        back = np.arange(-length, 0)
        for members in np.split(order, first[1:]):
            before = np.searchsorted(segments.start_s[members], limit[members], side="right")
            position = before[:, None] + back[None, :]
            rows[members] = np.where(position >= 0, members[np.maximum(position, 0)], -1)
        return rows

    def examples(self, config: HistoryConfig, length: int) -> Examples:
        """The history of every segment, as action ids, with the segment's action as the target."""
        rows = self.history_rows(config, length)
        action = self.segments.action
        return Examples(
            history=np.where(rows >= 0, action[rows], -1),
            target=action,
            group=self.video_ids,
        )
