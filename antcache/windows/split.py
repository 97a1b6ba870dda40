"""The windows of a split in one feature stream or several, before any feature is read.

Promise: every stream has the same windows in the same order; what is missing is refused or counted
as asked. Training, and prediction after it, get their windows here and nowhere else.
Letters: N segments, M windows, T frames, D feature, P protocols.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from antcache.annotations import Protocol, Segments
from antcache.annotations.protocols import anchor_name
from antcache.errors import BadConfig
from antcache.store import Features, Store, Stream
from antcache.store.format import checksums, fingerprint
from antcache.windows.index import WindowIndex, join, stream_features
from antcache.windows.labels import WindowLabels
from antcache.windows.reading.stream_rows import Futures, StreamRows, tokens_read

log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class SplitWindows:
    """M windows of N segments of a split: one of each, or several at other gaps and anchors.

    Attributes:
        labels: what is known of the M windows; those of a segment are neighbours.
        segments: the N segments.
        segment: (M,) which of them each window is of.
        drawn: (N, P) int64, the windows of a segment under each of P protocols, one of which is
            drawn at a time; -1 where it has none. Every segment has one at least.
        own: (N,) int64, its window under the protocol that it is scored by, -1 without.
        streams: the rows that the windows look at, one after the other in the order of the streams.
        num_padded: windows with at least one padded frame.
        dropped: reason -> uids of the segments that have no window.
    """

    labels: WindowLabels
    segments: Segments
    segment: NDArray[np.int64]
    drawn: NDArray[np.int64]
    own: NDArray[np.int64]
    streams: tuple[StreamRows, ...]
    num_padded: int
    dropped: Mapping[str, tuple[str, ...]]

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def num_bytes(self) -> int:
        """Bytes of all their features, packed."""
        return sum(stream.num_bytes for stream in self.streams)

    @property
    def fingerprint(self) -> str:
        """Hash of which windows these are; the second stream's rows and further ones count too, and
        which protocol is which, of several."""
        arrays = {"rows": self.streams[0].rows, "uid": self.labels.uid}
        arrays["action"] = self.labels.action
        arrays |= {f"rows {i}": stream.rows for i, stream in enumerate(self.streams) if i}
        if self.drawn.shape[1] > 1:
            arrays["drawn"] = self.drawn
        return fingerprint(checksums(arrays))

    def contents(self, *, frames: bool) -> str:
        """Hash of what is in these windows: their labels, with those of `frames` if they matter,
        and the rows of their videos, whose checksums the store keeps; no feature is read."""
        videos = np.unique(self.labels.video).tolist()
        rows = [{v: dict(s.features[v].checksums) for v in videos} for s in self.streams]
        labels = {k: v for k, v in vars(self.labels).items() if frames or k != "frame_action"}
        return fingerprint({"labels": checksums(labels), "rows": rows})


def split_windows(
    store: Store,
    streams: Sequence[Stream],
    split: str,
    segments: Segments,
    protocol: Protocol,
    *,
    drawn: Sequence[Protocol] = (),
    scored: bool = True,
    allow_missing: bool = False,
) -> SplitWindows:
    """The windows that every stream has of the segments of a split.

    Args:
        store: whose features they are of.
        streams: of the store, in the order in which features lie side by side.
        split: what errors call the segments.
        segments: labelled or not.
        protocol: gap, frames and rate of a window.
        drawn: protocols one of which is drawn for a segment in its place, as often as one looks.
        scored: whether a segment needs a window under `protocol` itself, too.
        allow_missing: drop windows whose features are missing instead of raising: a segment is
            drawn among those that it has, and dropped if it has none.

    Raises:
        MissingFeature: features are missing, and that is not allowed.
        BadConfig: no segment has a window under one of the protocols, the streams have rows of
            different numbers of tokens, none that are predicted for a gap, or none for it at all.
    """
    tokens_read(streams)  # they are as many in all of them
    features = {stream.name: stream_features(store, stream.name, segments) for stream in streams}
    among = tuple(dict.fromkeys(drawn or (protocol,)))
    protocols = tuple(dict.fromkeys((*among, protocol) if scored else among))
    found = []
    for each in protocols:
        what = f"split {split}"
        if len(protocols) > 1:
            what += f", gap {each.gap_s:g} s, anchor {anchor_name(each.anchor)}"
        for stream in streams:
            _check_kept(stream, each)
        found.append(_indexed(store, features, segments, each, what, allow_missing=allow_missing))
    windows = _joined(found, features, streams, segments, protocols, len(among), protocol)
    few = int((windows.drawn < 0).any(axis=1).sum())
    several = f" of {len(windows.segments)} segments" if len(protocols) > 1 else ""
    log.info("%s: %d windows%s (%d padded)", split, len(windows), several, windows.num_padded)
    if few:
        log.info("%s: %d segments have some of their %d windows alone", split, few, len(among))
    if windows.dropped:
        why = ", ".join(f"{why} {len(uids)}" for why, uids in windows.dropped.items())
        missing = len(segments) - len(windows.segments)
        log.info("%s: %d segments dropped: %s", split, missing, why)
    return windows


def _check_kept(stream: Stream, protocol: Protocol) -> None:
    """Refuse windows whose ends are none of those that a stream keeps rows for.

    Raises:
        BadConfig: says which gaps and anchors there are.
    """
    if stream.at is None or stream.keeps(anchor=protocol.anchor, gap_s=protocol.gap_s):
        return
    gaps = " or ".join(f"{gap_s:g}" for gap_s in stream.at["gaps"])
    anchors = " or ".join(anchor_name(anchor) for anchor in stream.at["anchors"])
    raise BadConfig(
        "the stream has rows for other windows only",
        where=f"features/{stream.name}",
        expected=f"a gap of {gaps} s, the anchor {anchors}",
        found=f"a gap of {protocol.gap_s:g} s, the anchor {anchor_name(protocol.anchor)}",
        hint="give one of these, or extract a stream for others: `gaps`, `anchors`",
    )


def _indexed(
    store: Store,
    features: Mapping[str, Mapping[str, Features]],
    segments: Segments,
    protocol: Protocol,
    what: str,
    *,
    allow_missing: bool,
) -> dict[str, WindowIndex]:
    """Stream -> index of the windows that all streams have under one protocol.

    Raises:
        MissingFeature, BadConfig: see `split_windows`; they call the windows `what`.
    """
    indices = join(
        {
            name: WindowIndex.build(
                videos,
                segments,
                protocol,
                allow_missing=allow_missing,
                where=f"{store.path}: features/{name}, {what}",
            )
            for name, videos in features.items()
        }
    )
    index = next(iter(indices.values()))
    if not len(index):
        dropped = ", ".join(f"{why} {len(uids)}" for why, uids in index.dropped.items())
        where = f"{store.path}: features/{','.join(indices)}, {what}"
        raise BadConfig("no segment has a window", where=where, found=dropped)
    return indices


def _joined(
    found: Sequence[Mapping[str, WindowIndex]],
    features: Mapping[str, Mapping[str, Features]],
    streams: Sequence[Stream],
    segments: Segments,
    protocols: Sequence[Protocol],
    num_drawn: int,
    scored: Protocol,
) -> SplitWindows:
    """The windows of all protocols, of which the first `num_drawn` are drawn among."""
    several = [next(iter(indices.values())) for indices in found]
    ends = np.cumsum([len(index) for index in several])
    place = np.full((len(segments), len(protocols)), -1, dtype=np.int64)
    for column, (index, end) in enumerate(zip(several, ends, strict=True)):
        place[index.segment, column] = np.arange(end - len(index), end)
    kept = (place[:, :num_drawn] >= 0).any(axis=1)
    there = place[kept] >= 0
    order = place[kept][there]  # one segment after the other
    position = np.where(there, np.cumsum(there).reshape(there.shape) - 1, -1)
    dropped: dict[str, list[str]] = {}
    left = set(segments.uid[~kept].tolist())
    for index in several:
        for why, uids in index.dropped.items():
            if new := [uid for uid in uids if uid in left]:
                dropped.setdefault(why, []).extend(new)
                left.difference_update(new)
    own = protocols.index(scored) if scored in protocols else None
    segment, column_of = np.nonzero(there)
    gaps_s = [protocol.gap_s for protocol in protocols]
    labels = WindowLabels.joined([index.labels for index in several])[order]
    return SplitWindows(
        labels=labels,
        segments=segments[np.flatnonzero(kept)],
        segment=segment,
        drawn=position[:, :num_drawn],
        own=np.full(len(position), -1) if own is None else position[:, own],
        streams=tuple(
            StreamRows(
                features=features[stream.name],
                video=labels.video,
                rows=np.concatenate([indices[stream.name].rows for indices in found])[order],
                futures=Futures.of(stream, gaps_s, column_of),
            )
            for stream in streams
        ),
        num_padded=int(np.concatenate([index.padded for index in several])[order].any(1).sum()),
        dropped={why: tuple(uids) for why, uids in dropped.items()},
    )
