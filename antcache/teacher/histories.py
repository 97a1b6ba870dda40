"""Histories: for every segment, the last h segments of its video that came before it.

Promise: built once per dataset with one sort and one pass (numba), and no history ever holds a
segment that starts at or after the one it belongs to. What counts as having come before:

- `complete`: every segment of the same video, of any split, that starts strictly earlier. An action
  that begins at the same instant is not earlier.
- `observed`: of these, the ones that began no later than `start - gap_s` (a start exactly on that
  boundary is observed; see `antcache.timebase` for the tolerance). With another anchor than the
  start, that moment is the segment's reference point less the gap.
- `gappy`: as complete, but only segments of the same split. EGTEA Gaze+ splits cut through videos,
  so such a history misses what the other split holds.

Within a history, segments are in order of start; of two that start together, the one that stops
first is the older, and of two with equal times, the one that comes first in its annotation file.

A history can say when things happened, as far as the moment of prediction knows, `start - gap_s`:
how long ago each action began, and how long it has lasted, up to that moment and no further. Of an
action that begins after that moment (`complete` and `gappy` histories hold such ones) it is only
known when: its `ago_s` is negative, and it has lasted 0 s.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Annotated, Any

import numpy as np
from numpy.typing import NDArray

from antcache.annotations import Segments, Taxonomy
from antcache.annotations.protocols import Anchor, reference_times
from antcache.annotations.segments import COLUMNS
from antcache.checks import Range, Weight, at_least, check_types, one_of
from antcache.errors import BadAnnotations, BadConfig, MissingKey
from antcache.timebase import TOLERANCE_S

if TYPE_CHECKING:
    from antcache.store import Store

Length = Annotated[int, Range(1, 1000)]
"""Past actions that a teacher is told about: there are as many of them for every segment."""

MODES = ("complete", "observed", "gappy")


def check_folds(count: int | None) -> None:
    """Refuse a single fold, which leaves nothing to learn from; 0 and None are none."""
    if count == 1:
        raise BadConfig("impossible folds", expected="0, or 2 and more", found=count)


@dataclass(frozen=True, kw_only=True)
class HistoryConfig:
    """Which earlier segments a teacher is told about."""

    mode: str = "complete"
    """One of `MODES`."""
    gap_s: Weight = 1.0
    """Anticipation gap tau_a in seconds; `observed` histories and times depend on it."""
    anchor: Anchor = 0.0
    """What the gap is counted back from; see `Protocol.anchor`."""

    def __post_init__(self) -> None:
        check_types(self)
        one_of("history", self.mode, MODES)

    @property
    def settings(self) -> dict[str, Any]:
        """JSON-ready form, which says an anchor only if it is another than the start: histories
        from before there were others are named as they were."""
        said = asdict(self)
        return {k: v for k, v in said.items() if k != "anchor" or v != 0}

    def moment_s(self, segments: Segments) -> NDArray[np.float64]:
        """When each of the segments (N,) is predicted."""
        return reference_times(segments.start_s, segments.stop_s, self.anchor) - self.gap_s


@dataclass(frozen=True, kw_only=True)
class Examples:
    """What teachers see, whether it comes from videos or from text: N histories and what came next.

    Attributes:
        history: (N, h) int64 action ids, oldest first, -1 on the left where there is nothing.
        target: (N,) int64, the action that came next.
        group: (N,) int64, equal for the examples of one video (or script);
            whatever is held out is held out by group.
        ago_s: (N, h) float32, seconds from the start of each past action to the moment of
            prediction; NaN where there is nothing or it is unknown. None where not asked for.
        lasted_s: (N, h) float32, seconds that each had lasted by that moment; NaN and None alike.
    """

    history: NDArray[np.int64]
    target: NDArray[np.int64]
    group: NDArray[np.int64]
    ago_s: NDArray[np.float32] | None = None
    lasted_s: NDArray[np.float32] | None = None

    def __len__(self) -> int:
        return len(self.target)

    def __getitem__(self, rows: NDArray[np.int64] | NDArray[np.bool_] | slice) -> Examples:
        """The examples at `rows` (indices, a mask or a slice)."""
        return Examples(
            history=self.history[rows],
            target=self.target[rows],
            group=self.group[rows],
            ago_s=None if self.ago_s is None else self.ago_s[rows],
            lasted_s=None if self.lasted_s is None else self.lasted_s[rows],
        )

    def require_times(self) -> None:
        """Refuse examples without times, for a teacher that is told about them.

        Raises:
            BadConfig: they have none.
        """
        if self.ago_s is None or self.lasted_s is None:
            raise BadConfig(
                "this teacher is told about times, and the examples have none",
                hint="build them with Timeline.examples(..., times=True)",
            )

    def folds(self, count: int, seed: int = 0) -> NDArray[np.int64]:
        """Fold (N,) of each example, by its group; see `deal_folds`."""
        return deal_folds(self.group, count, seed)


def deal_folds(group: NDArray[np.int64], count: int, seed: int = 0) -> NDArray[np.int64]:
    """Fold (N,) of each row: `count` folds of whole groups (N,), of about equal size.

    Groups are drawn in random order, each into the fold that is smallest so far.

    Raises:
        BadConfig: there are fewer groups than folds, or fewer than 2 folds.
    """
    groups, member, sizes = np.unique(group, return_inverse=True, return_counts=True)
    at_least("number of folds", count, 2, len(groups), where=f"{len(groups)} groups")
    fold = np.empty(len(groups), dtype=np.int64)
    filled = np.zeros(count, dtype=np.int64)
    for one in np.random.default_rng(seed).permutation(len(groups)):
        fold[one] = filled.argmin()
        filled[fold[one]] += sizes[one]
    return fold[member]


def concatenate(parts: Sequence[Examples]) -> Examples:
    """All examples of `parts`, whose histories are equally long; no two parts share a group.

    Times are there if any part has them, and NaN for the parts that have none.
    """
    offsets = np.cumsum([0, *(int(p.group.max(initial=-1)) + 1 for p in parts[:-1])])

    def times(name: str) -> NDArray[np.float32] | None:
        arrays = [getattr(p, name) for p in parts]
        if all(a is None for a in arrays):
            return None
        unknown = (np.full(p.history.shape, np.nan, dtype=np.float32) for p in parts)
        return np.concatenate([u if a is None else a for a, u in zip(arrays, unknown, strict=True)])

    return Examples(
        history=np.concatenate([p.history for p in parts]),
        target=np.concatenate([p.target for p in parts]),
        group=np.concatenate([p.group + o for p, o in zip(parts, offsets, strict=True)]),
        ago_s=times("ago_s"),
        lasted_s=times("lasted_s"),
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

    @classmethod
    def of_store(cls, store: Store) -> Timeline:
        """The segments of all splits of a store.

        Raises:
            MissingKey: it has none.
        """
        if not store.splits():
            raise MissingKey(
                "the store has no labels", where=store.path, hint="antcache annotations import"
            )
        return cls.of({split: store.labels(split) for split in store.splits()}, store.taxonomy)

    def in_split(self, split: str) -> NDArray[np.bool_]:
        """Mask (N,) of the segments of the training split; raises MissingKey without any."""
        inside = self.split == split
        if not inside.any():
            raise MissingKey(
                f"no segments in the training split {split!r}",
                found=", ".join(np.unique(self.split)),
            )
        return np.asarray(inside)

    @property
    def video_ids(self) -> NDArray[np.int64]:
        """Number (N,) of each segment's video."""
        return np.unique(self.segments.video, return_inverse=True)[1].astype(np.int64)

    def history_rows(self, config: HistoryConfig, length: int) -> NDArray[np.int64]:
        """Rows (N, h) of the last h = `length` segments of each segment's history; see the module.

        Oldest first; -1 on the left where there are fewer.

        Raises:
            MissingExtra: numba is not installed.
        """
        from antcache.teacher.loops import last_rows

        segments = self.segments
        group = self.video_ids
        if config.mode == "gappy":
            part = np.unique(self.split, return_inverse=True)[1]
            group = group * (part.max(initial=0) + 1) + part
        order = np.lexsort((segments.stop_s, segments.start_s, group))  # stable: then by row
        limit = segments.start_s - TOLERANCE_S  # a start below it is strictly earlier
        if config.mode == "observed":
            # A start on the boundary is observed, so the tolerance turns round; `min` keeps the
            # strict rule where the gap is 0.
            limit = np.minimum(limit, config.moment_s(segments) + TOLERANCE_S)
        rows: NDArray[np.int64] = last_rows(order, group, segments.start_s, limit, length)
        return rows

    def examples(self, config: HistoryConfig, length: int, *, times: bool = False) -> Examples:
        """The history of every segment, as action ids, with the segment's action as the target.

        Args:
            config: what counts as having come before.
            length: h, past actions at most.
            times: also when they began and how long they have lasted; see the module.

        Raises:
            MissingExtra: numba is not installed.
        """
        rows = self.history_rows(config, length)
        action = self.segments.action
        ago_s, lasted_s = self._times(rows, config) if times else (None, None)
        return Examples(
            history=np.where(rows >= 0, action[rows], -1),
            target=action,
            group=self.video_ids,
            ago_s=ago_s,
            lasted_s=lasted_s,
        )

    def _times(
        self, rows: NDArray[np.int64], config: HistoryConfig
    ) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """`ago_s` and `lasted_s` of the segments `rows` (N, h)."""
        start = self.segments.start_s
        moment = config.moment_s(self.segments)[:, None]
        ago = np.where(rows >= 0, moment - start[rows], np.nan)
        seen = np.minimum(self.segments.stop_s[rows], moment) - start[rows]
        lasted = np.where(rows >= 0, np.maximum(seen, 0), np.nan)
        return ago.astype(np.float32), lasted.astype(np.float32)
