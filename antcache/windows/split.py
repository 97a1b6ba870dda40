"""The windows of a split in one feature stream or several, before any feature is read.

Promise: every stream has the same windows in the same order; what is missing is refused or counted
as asked. Training, and prediction after it, get their windows here and nowhere else.
Letters: N windows, T frames, D feature.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from antcache.annotations import Protocol, Segments
from antcache.errors import BadConfig
from antcache.store import Features, Store, Stream
from antcache.store.format import checksums, fingerprint
from antcache.windows.index import WindowIndex, join, stream_features
from antcache.windows.labels import WindowLabels

log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class DistinctRows:
    """The U rows that windows look at, each once, whichever and however many windows share it.

    Attributes:
        videos: (V,) their videos, ascending.
        owner: (U,) position of each row's video among them, ascending.
        rows: (U,) row of that video, ascending within it.
        places: (N, T) which of the U each frame of the N windows takes.
    """

    videos: NDArray[np.str_]
    owner: NDArray[np.int64]
    rows: NDArray[np.int64]
    places: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.rows)

    @classmethod
    def of(cls, video: NDArray[np.str_], rows: NDArray[np.int64]) -> DistinctRows:
        """Those of windows that look at `rows` (N, T) of `video` (N,)."""
        videos, which = np.unique(video, return_inverse=True)
        stride = int(rows.max(initial=0)) + 1
        found, places = np.unique(which[:, None] * stride + rows, return_inverse=True)
        return cls(
            videos=videos,
            owner=found // stride,
            rows=found % stride,
            places=places.reshape(rows.shape).astype(np.int64, copy=False),
        )


@dataclass(frozen=True, kw_only=True)
class StreamRows:
    """The rows of one feature stream that N windows look at.

    Attributes:
        features: features by video.
        video: (N,) the video of each window.
        rows: (N, T) rows of that video.
    """

    features: Mapping[str, Features]
    video: NDArray[np.str_]
    rows: NDArray[np.int64]

    @classmethod
    def of(cls, features: Mapping[str, Features], index: WindowIndex) -> StreamRows:
        """The rows of an index that was built from `features`."""
        return cls(features=features, video=index.labels.video, rows=index.rows)

    @property
    def dtype(self) -> np.dtype[np.floating]:
        """float16 or float32."""
        return np.dtype(self._any.rows.dtype)

    @property
    def shape(self) -> tuple[int, ...]:
        """(N, T, D)."""
        return (*self.rows.shape, *self.row_shape)

    @cached_property
    def distinct(self) -> DistinctRows:
        """The rows, each once."""
        return DistinctRows.of(self.video, self.rows)

    @property
    def num_bytes(self) -> int:
        """Bytes of the distinct rows, as they lie in the store."""
        return len(self.distinct) * int(np.prod(self.row_shape)) * self.dtype.itemsize

    @property
    def row_shape(self) -> tuple[int, ...]:
        """(D,)."""
        return self._any.rows.shape[1:]

    @property
    def _any(self) -> Features:
        """A video of the stream: they are all of one width and type."""
        return self.features[str(self.video[0])]


@dataclass(frozen=True, kw_only=True)
class SplitWindows:
    """N windows of a split.

    Attributes:
        labels: what is known of them.
        segments: their N segments.
        streams: the rows that they look at, one after the other in the order of the streams.
        num_padded: windows with at least one padded frame.
        dropped: reason -> uids of the segments that have no window.
    """

    labels: WindowLabels
    segments: Segments
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
        """Hash of which windows these are; the second stream's rows and further ones count too."""
        arrays = {"rows": self.streams[0].rows, "uid": self.labels.uid}
        arrays["action"] = self.labels.action
        arrays |= {f"rows {i}": stream.rows for i, stream in enumerate(self.streams) if i}
        return fingerprint(checksums(arrays))


def split_windows(
    store: Store,
    streams: Sequence[Stream],
    split: str,
    segments: Segments,
    protocol: Protocol,
    *,
    allow_missing: bool = False,
) -> SplitWindows:
    """The windows that every stream has of the segments of a split.

    Args:
        store: whose features they are of.
        streams: of the store, in the order in which features lie side by side.
        split: what errors call the segments.
        segments: labelled or not.
        protocol: gap, frames and rate of a window.
        allow_missing: drop segments whose features are missing instead of raising.

    Raises:
        MissingFeature: features are missing, and that is not allowed.
        BadConfig: no segment has a window.
    """
    features = {stream.name: stream_features(store, stream.name, segments) for stream in streams}
    indices = join(
        {
            name: WindowIndex.build(
                videos,
                segments,
                protocol,
                allow_missing=allow_missing,
                where=f"{store.path}: features/{name}, split {split}",
            )
            for name, videos in features.items()
        }
    )
    index = next(iter(indices.values()))
    dropped = ", ".join(f"{why} {len(uids)}" for why, uids in index.dropped.items())
    if not len(index):
        where = f"{store.path}: features/{','.join(indices)}, split {split}"
        raise BadConfig("no segment has a window", where=where, found=dropped)
    log.info("%s: %d windows (%d padded)", split, len(index), index.num_padded)
    if index.dropped:
        missing = len(segments) - len(index)
        log.info("%s: %d segments dropped: %s", split, missing, dropped)
    return SplitWindows(
        labels=index.labels,
        segments=segments[index.segment],
        streams=tuple(StreamRows.of(features[name], own) for name, own in indices.items()),
        num_padded=index.num_padded,
        dropped=index.dropped,
    )
