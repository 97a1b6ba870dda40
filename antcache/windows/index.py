"""Which feature rows each segment is anticipated from, and why a segment has no window.

Promise: pure numpy, no feature is read. A frame that is not padding gets the last row seen at or
before it; no row of a window was seen after the window's last frame, so nothing can be seen of the
gap before the protocol's reference point (the action's start, unless another is its anchor), or
after it. Every segment has a window, or a reason to be dropped.
Letters: S segments, N windows, T frames.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import reduce

import numpy as np
from numpy.typing import NDArray

from antcache.annotations import Protocol, Segments, sample_windows
from antcache.errors import MissingFeature
from antcache.store import Features, Store
from antcache.text import listed
from antcache.timebase import frames_to_seconds
from antcache.windows.frame_labels import UNLABELLED, avt_frame_labels, by_video, frame_labels
from antcache.windows.labels import WindowLabels

TOO_EARLY = "too_early"
"""The segment starts so early that there is no frame to see: dropped by the protocol itself."""
BEFORE_FEATURES = "before_features"
"""The whole window lies before the video's first row: nothing has been seen yet."""
NO_FEATURES = "no_features"
"""The stream does not have the video."""
SHORT_FEATURES = "short_features"
"""The window needs a row past the end of the video's features."""
GAP_IN_FEATURES = "gap_in_features"
"""A gap in the video's rows: the last row before a frame is too old to stand for it."""
NOT_KEPT = "not_kept"
"""The stream keeps rows for the ends of some windows, and has none for this one."""

MISSING = (NO_FEATURES, SHORT_FEATURES, GAP_IN_FEATURES, NOT_KEPT)
"""Reasons that are a fault of the store, and an error unless they are allowed."""


@dataclass(frozen=True, kw_only=True)
class WindowIndex:
    """The windows of one split, in the order of its segments.

    Attributes:
        labels: what is known of the N windows.
        segment: (N,) int64, position of the window's segment in the split.
        rows: (N, T) int64, row of the video's features for each frame.
        padded: (N, T) bool, true where the row stands in for a frame before everything seen.
        dropped: reason -> uids of the segments that have no window, in order.
        masks_padding: whether losses pass padded frames over; under the parity `avt` they count,
            and their label is what AVT takes for it.
    """

    labels: WindowLabels
    segment: NDArray[np.int64]
    rows: NDArray[np.int64]
    padded: NDArray[np.bool_]
    dropped: Mapping[str, tuple[str, ...]]
    masks_padding: bool = True

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def num_padded(self) -> int:
        """Windows with at least one padded frame."""
        return int(self.padded.any(axis=1).sum())

    @classmethod
    def build(
        cls,
        features: Mapping[str, Features],
        segments: Segments,
        protocol: Protocol,
        *,
        allow_missing: bool = False,
        where: str = "",
    ) -> WindowIndex:
        """Index of the windows of `segments` (S) under `protocol`.

        Args:
            features: features by video; only times and numbers of rows are looked at.
            segments: the split, S segments.
            protocol: gap, frames and rate of a window.
            allow_missing: drop segments whose features are missing instead of raising.
            where: store, stream and split, for the error.

        Raises:
            MissingFeature: the store lacks features that windows need.
        """
        sampled = sample_windows(segments.start_s, protocol, segments.stop_s)
        exact = exact_seconds(segments, protocol)
        rows = np.zeros_like(sampled.frames)
        padded = sampled.padded.copy()
        reason = np.where(sampled.kept, "", TOO_EARLY).astype(object)
        for video, members in by_video(segments.video):
            kept = members[sampled.kept[members]]
            if video not in features or not features[video].num_rows:
                reason[kept] = NO_FEATURES
                continue
            seconds = frames_to_seconds(sampled.frames[kept])
            if features[video].listed:
                seconds = _kept_seconds(features[video], exact[kept], seconds)
            rows[kept], before, reason[kept] = _locate(features[video], seconds)
            padded[kept] |= before
        if not allow_missing:
            _refuse_missing(segments, reason, where)
        segment = np.flatnonzero(reason == "")
        chosen = segments[segment]
        padded = padded[segment]
        as_avt = protocol.parity == "avt"
        if as_avt:
            known = segments[sampled.kept]  # it has forgotten segments that it dropped
            under_way = avt_frame_labels(chosen.start_s, chosen.video, known, protocol)
        else:
            under_way = frame_labels(sampled.frames[segment], chosen.video, segments)
        masked = padded & (not as_avt)
        return cls(
            labels=WindowLabels(
                uid=chosen.uid,
                video=chosen.video,
                action=chosen.action,
                verb=chosen.verb,
                noun=chosen.noun,
                padded=masked,
                frame_action=np.where(masked, UNLABELLED, under_way),
            ),
            segment=segment,
            rows=rows[segment],
            padded=padded,
            masks_padding=not as_avt,
            dropped={
                why: tuple(segments.uid[reason == why].tolist())
                for why in (TOO_EARLY, BEFORE_FEATURES, *MISSING)
                if (reason == why).any()
            },
        )


def join(indices: Mapping[str, WindowIndex]) -> dict[str, WindowIndex]:
    """The windows that every stream has, of one split under one protocol.

    Args:
        indices: stream -> its index.

    Returns:
        Stream -> index, equal in everything but `rows`. A frame is padding where it is in any
        stream. A segment that a stream lacks is dropped under that stream's reason and name
        (`no_features in flow`), the first one's if several lack it. One stream stays as it is.
    """
    if len(indices) == 1:
        return dict(indices)
    common = reduce(np.intersect1d, [index.segment for index in indices.values()])
    places = {name: np.searchsorted(index.segment, common) for name, index in indices.items()}
    padded = np.any([index.padded[places[name]] for name, index in indices.items()], axis=0)
    dropped: dict[str, tuple[str, ...]] = {}
    seen: set[str] = set()
    for name, index in indices.items():
        for why, uids in index.dropped.items():
            new = tuple(uid for uid in uids if uid not in seen)
            if new:
                dropped[why if why == TOO_EARLY else f"{why} in {name}"] = new
            seen.update(new)
    first = next(iter(indices))
    labels = indices[first].labels[places[first]]
    masked = padded & indices[first].masks_padding
    labels = replace(
        labels, padded=masked, frame_action=np.where(masked, UNLABELLED, labels.frame_action)
    )
    return {
        name: replace(
            index,
            labels=labels,
            segment=common,
            rows=index.rows[places[name]],
            padded=padded,
            dropped=dropped,
        )
        for name, index in indices.items()
    }


def stream_features(store: Store, stream: str, segments: Segments) -> dict[str, Features]:
    """Features of the segments' videos, as far as the stream has them.

    Raises:
        MissingKey: the store has no such stream.
    """
    settings = store.stream(stream)
    there = set(store.videos(stream, listed=True)).intersection(segments.videos)
    return {video: store.features(stream, video, settings=settings) for video in sorted(there)}


def exact_seconds(segments: Segments, protocol: Protocol) -> NDArray[np.float64]:
    """Times (S, T) that the frames of windows are meant to be seen at, not those of any frame."""
    end_s = protocol.reference_s(segments.start_s, segments.stop_s) - protocol.gap_s
    back = np.arange(protocol.num_frames - 1, -1, -1)
    return np.asarray(end_s[:, None] - back / protocol.rate)


def _kept_seconds(
    features: Features, exact: NDArray[np.float64], seconds: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Times (n, T) to look for in features of listed times.

    A row may have been kept for the very time, or for that of the last annotated frame before it,
    which every other stream is asked for. Neither is later than the window may see.
    """
    there = ~features.too_old(features.rows_at(exact), exact)
    return np.where(there, exact, seconds)


def _locate(
    features: Features, seconds: NDArray[np.float64]
) -> tuple[NDArray[np.int64], NDArray[np.bool_], NDArray[np.object_]]:
    """Rows for frames seen at `seconds` (n, T), which of them are padding, and reasons (n,).

    A frame before the first row of the video takes the smallest row of its window that there is,
    as the protocol pads frames before the first frame.
    """
    rows = features.rows_at(seconds)
    before = rows < 0
    stale = features.too_old(rows, seconds)
    rows = np.minimum(rows, features.num_rows - 1)
    past_end = stale & (rows == features.num_rows - 1)
    gap = stale & ~past_end
    smallest = np.where(before, np.iinfo(np.int64).max, rows).min(axis=1, keepdims=True)
    reason = np.full(len(rows), "", dtype=object)
    reason[gap.any(axis=1)] = GAP_IN_FEATURES
    reason[past_end.any(axis=1)] = SHORT_FEATURES
    if features.listed:
        reason[stale.any(axis=1)] = NOT_KEPT
    reason[before.all(axis=1)] = BEFORE_FEATURES
    return np.where(before, smallest, rows), before, reason


def _refuse_missing(segments: Segments, reason: NDArray[np.object_], where: str) -> None:
    """Raise `MissingFeature` with numbers and the first few videos, if features are missing."""
    missing = np.isin(reason.astype(str), MISSING)
    if not missing.any():
        return
    videos, counts = np.unique(segments.video[missing], return_counts=True)
    each = [f"{video} ({count})" for video, count in zip(videos, counts, strict=True)]
    kinds = ", ".join(f"{why} {n}" for why in MISSING if (n := int((reason == why).sum())))
    raise MissingFeature(
        f"{missing.sum()} of {len(segments)} segments have no features for their window ({kinds})",
        where=where,
        found=f"{len(videos)} videos: {listed(each)}",
        hint="extract these videos, or leave the segments out: `allow_missing`"
        + (
            "; the rows of others are for other windows, one for each: `num_frames` 1"
            if NOT_KEPT in kinds
            else ""
        )
        + (", or see --fill of antcache import lmdb" if GAP_IN_FEATURES in kinds else ""),
    )
