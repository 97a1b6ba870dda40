"""One feature stream as the doctor looks at it: which videos can be read, and what is in them.

Promise: a video that can't be opened or read is noted, and counts as absent from then on.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from itertools import product

import numpy as np

from antcache.annotations import Protocol, Segments
from antcache.annotations.protocols import before, gaps_name
from antcache.doctor.report import Finding, StreamReport
from antcache.doctor.rows import (
    RowScan,
    check_rate,
    check_times,
    check_values,
    run_s,
    scan_rows,
)
from antcache.errors import DamagedStore
from antcache.store import Features, Store, Stream
from antcache.text import listed
from antcache.windows.frame_labels import by_video
from antcache.windows.index import NOT_KEPT, stream_features


@dataclass(kw_only=True)
class ExaminedStream:
    """One stream, as far as the splits need it.

    Attributes:
        stream: its settings.
        wanted: videos that the splits name, sorted.
        others: how many further ones it has.
        features: the wanted videos that can be read.
        damaged: the wanted videos that can't be, and why.
        last_stop: video -> when its last segment stops, in seconds.
        wrong_index: what is wrong with the stream's index, if anything is.
        scans: what was found in the rows of each video; None before `scan`.
    """

    stream: Stream
    wanted: tuple[str, ...]
    others: int
    features: dict[str, Features]
    damaged: dict[str, str]
    last_stop: dict[str, float]
    wrong_index: str = ""
    scans: dict[str, RowScan] | None = None

    @classmethod
    def of(cls, store: Store, name: str, splits: Mapping[str, Segments]) -> ExaminedStream:
        """Open the videos that the splits name; no row is read."""
        stream = store.stream(name)
        last_stop: dict[str, float] = {}
        for segments in splits.values():
            for video, members in by_video(segments.video):
                stop = float(segments.stop_s[members].max())
                last_stop[video] = max(stop, last_stop.get(video, 0.0))
        features, damaged = _open(store, stream, splits)
        return cls(
            stream=stream,
            wanted=tuple(sorted(last_stop)),
            others=len(set(store.videos(name, listed=True)).difference(last_stop)),
            features=features,
            damaged=damaged,
            last_stop=last_stop,
            wrong_index=store.backend.wrong_index(f"features/{name}"),
        )

    @property
    def num_bytes(self) -> int:
        """Bytes that `scan` reads."""
        rows = sum(f.num_rows for f in self.features.values())
        return rows * math.prod(self.stream.row_shape) * np.dtype(self.stream.dtype).itemsize

    def protocols(self, protocol: Protocol) -> list[Protocol]:
        """The windows that are looked at: of a stream that keeps rows for the ends of some, each
        gap and anchor that it keeps, in windows of one frame; else those of the protocol."""
        at = self.stream.at
        if at is None:
            return [protocol]
        return [
            replace(protocol, anchor=anchor, gap_s=gap_s, num_frames=1, parity="exact")
            for anchor, gap_s in product(at["anchors"], at["gaps"])
        ]

    def scan(self, count: Callable[[int], None]) -> None:
        """Read every row; a video that can't be read counts as absent from then on."""
        self.scans = {}
        for video, features in list(self.features.items()):
            try:
                self.scans[video] = scan_rows(features, count)
            except DamagedStore as error:
                self.damaged[video] = str(error)
                del self.features[video]

    def check(self, protocol: Protocol) -> Iterator[Finding]:
        """All that concerns the stream whatever the split."""
        if self.wrong_index:
            yield Finding(
                kind="wrong_index",
                missing=False,
                where=self.stream.name,
                text=f"its index has {self.wrong_index}: another tool has been in the store; "
                "antcache store index writes it anew",
            )
        if self.damaged:
            yield Finding(
                kind="damaged",
                missing=True,
                where=self.stream.name,
                text=f"{len(self.damaged)} videos can't be read: {listed(list(self.damaged))}; "
                f"{next(iter(self.damaged.values()))}",
                videos=tuple(self.damaged),
            )
        if self.stream.at is None:
            yield from check_rate(self.stream, protocol)
            yield from check_times(self.stream, self.features, self.last_stop)
        else:
            yield from self._check_kept(protocol)
        yield from check_values(self.stream.name, self.features, self.scans or {})

    def _check_kept(self, protocol: Protocol) -> Iterator[Finding]:
        """Whether rows are kept for the windows of the protocol at all."""
        if not self.stream.keeps(anchor=protocol.anchor, gap_s=protocol.gap_s):
            yield Finding(
                kind=NOT_KEPT,
                missing=True,
                where=self.stream.name,
                text=f"rows are kept for other windows than those {window_name(protocol)}: "
                + _kept(self.stream.at or {}),
            )
        if protocol.num_frames > 1:
            yield Finding(
                kind=NOT_KEPT,
                missing=True,
                where=self.stream.name,
                text=f"windows of {protocol.num_frames} frames need rows before their last, but "
                "one is kept for each: ask for windows of one frame (--num-frames 1)",
            )

    def report(self) -> StreamReport:
        """The stream in numbers."""
        scans = None if self.scans is None else self.scans.items()
        runs = [run_s(self.features[v], s) for v, s in scans] if scans is not None else []
        return StreamReport(
            stream=self.stream.name,
            videos=len(self.features),
            absent=len(self.wanted) - len(self.features),
            others=self.others,
            rows=sum(f.num_rows for f in self.features.values()),
            scanned=scans is not None,
            non_finite=None if scans is None else sum(len(s.non_finite) for _, s in scans),
            zero=None if scans is None else sum(len(s.zero) for _, s in scans),
            repeated=None if scans is None else sum(s.repeated for _, s in scans),
            longest_run_s=None if scans is None else max(runs, default=0.0),
        )


def window_name(protocol: Protocol) -> str:
    """Where the windows of a protocol end, in words."""
    return f"{protocol.gap_s:g} s before {before(protocol.anchor)}"


def _kept(at: Mapping[str, list[float]]) -> str:
    """For which windows rows are kept, in words."""
    anchors = listed([before(anchor) for anchor in at["anchors"]])
    return f"those {gaps_name(at['gaps'])} before {anchors}"


def _open(
    store: Store, stream: Stream, splits: Mapping[str, Segments]
) -> tuple[dict[str, Features], dict[str, str]]:
    """Features of the annotated videos, and why some of them can't be opened."""
    features: dict[str, Features] = {}
    damaged: dict[str, str] = {}
    for segments in splits.values():
        try:
            features |= stream_features(store, stream.name, segments)
            continue
        except DamagedStore:  # at least one; which, is found out one by one
            pass
        for video in set(segments.videos).intersection(store.videos(stream.name, listed=True)):
            try:
                features[video] = store.features(stream.name, video)
            except DamagedStore as error:
                damaged[video] = str(error)
    return dict(sorted(features.items())), dict(sorted(damaged.items()))
