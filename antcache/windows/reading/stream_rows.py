"""What the windows of a split look at in one stream: rows, and which tokens of them.

Promise: pure numpy, and no feature is read. A row that several windows share is known as one. A
window reads a row's tokens and, of predicted futures, those for its own gap: what was predicted for
another gap says what happens at another time.
Letters: M windows, T frames, U distinct rows, V videos, K tokens of a row as stored, k of them that
a window reads, D feature.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from antcache.errors import BadConfig
from antcache.store import Features, Stream
from antcache.store.tokens import SAME_S, count_tokens
from antcache.windows.index import WindowIndex


def tokens_read(streams: Sequence[Stream]) -> int:
    """Tokens of a row that a window reads: the grid's, and one future's if there are any; 1 where a
    row is one vector.

    Raises:
        BadConfig: the streams' rows have different numbers, and can't lie side by side.
    """
    found = [1 if s.grid is None else count_tokens(s.grid, min(1, len(s.future))) for s in streams]
    if len(set(found)) > 1:
        each = [f"{count} in {s.name}" for s, count in zip(streams, found, strict=True)]
        raise BadConfig(
            "rows of different numbers of tokens can't lie side by side",
            expected="streams whose rows have as many",
            found=", ".join(each),
            hint="pool those of more: antcache store convert STORE NEW --tokens",
        )
    return found[0]


@dataclass(frozen=True, kw_only=True)
class Futures:
    """Which of several predicted futures M windows read.

    Attributes:
        which: (M,) int64, position of its future among those of the stream.
        present: tokens of the grid, which come first in a row.
        plane: tokens of each future.
    """

    which: NDArray[np.int64]
    present: int
    plane: int

    @property
    def tokens(self) -> int:
        """Tokens of a row that a window reads."""
        return self.present + self.plane

    @classmethod
    def of(
        cls, stream: Stream, gaps_s: Sequence[float], which: NDArray[np.int64]
    ) -> Futures | None:
        """Those of windows with the gaps `gaps_s[which]`, `which` (M,); None: rows are read whole.

        Raises:
            BadConfig: the stream has futures, and none for one of the gaps.
        """
        own = np.array([_position(stream, gap_s) for gap_s in gaps_s], dtype=np.int64)
        if stream.grid is None or len(stream.future) < 2:
            return None
        return cls(
            which=own[which],
            present=math.prod(stream.grid),
            plane=stream.grid[1] * stream.grid[2],
        )


def _position(stream: Stream, gap_s: float) -> int:
    """Position of the future for a gap; 0 in a stream without futures."""
    for position, ahead_s in enumerate(stream.future):
        if abs(ahead_s - gap_s) < SAME_S:
            return position
    if stream.future:
        raise BadConfig(
            f"the stream has no tokens that are predicted for a gap of {gap_s:g} s",
            where=f"features/{stream.name}",
            expected=f"a gap of {' or '.join(f'{ahead_s:g}' for ahead_s in stream.future)} s",
            hint="give one of these gaps, or extract the stream again: antcache extract --future",
        )
    return 0


@dataclass(frozen=True, kw_only=True)
class DistinctRows:
    """The U rows of V videos that windows look at, each once, by video and row.

    Attributes:
        videos: (V,) their names, ascending.
        owner: (U,) position of each row's video among them, ascending.
        rows: (U,) row of that video, ascending within it.
        places: (M, T) which of the U each frame of the windows takes.
    """

    videos: NDArray[np.str_]
    owner: NDArray[np.int64]
    rows: NDArray[np.int64]
    places: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.rows)

    @classmethod
    def of(cls, video: NDArray[np.str_], rows: NDArray[np.int64]) -> DistinctRows:
        """Those of windows that look at `rows` (M, T) of `video` (M,)."""
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
    """The rows of one feature stream that M windows look at.

    Attributes:
        features: features by video.
        video: (M,) the video of each window.
        rows: (M, T) rows of that video.
        futures: which of several predicted futures the windows read; None: rows are read whole.
    """

    features: Mapping[str, Features]
    video: NDArray[np.str_]
    rows: NDArray[np.int64]
    futures: Futures | None = None

    @classmethod
    def of(cls, features: Mapping[str, Features], index: WindowIndex) -> StreamRows:
        """The rows of an index that was built from `features`, read whole."""
        return cls(features=features, video=index.labels.video, rows=index.rows)

    @property
    def dtype(self) -> np.dtype[np.generic]:
        """float16 or float32, or int8 of tokens that have scales."""
        return np.dtype(self._any.rows.dtype)

    @property
    def has_scales(self) -> bool:
        """Whether each token has one."""
        return self._any.scale is not None

    @property
    def row_shape(self) -> tuple[int, ...]:
        """Shape of a row as it is stored: (D,), or (K, D) of tokens."""
        return self._any.rows.shape[1:]

    @property
    def shape(self) -> tuple[int, ...]:
        """(M, T, D), or (M, T, k, D) of the k > 1 tokens that windows read."""
        *tokens, dim = self.row_shape
        if self.futures is not None:
            tokens = [self.futures.tokens]
        return (*self.rows.shape, *(tokens if tokens != [1] else []), dim)

    @cached_property
    def distinct(self) -> DistinctRows:
        """The rows, each once."""
        return DistinctRows.of(self.video, self.rows)

    @property
    def num_bytes(self) -> int:
        """Bytes of the distinct rows and their scales, as they lie in the store."""
        row = int(np.prod(self.row_shape)) * self.dtype.itemsize
        scales = self.row_shape[0] * np.dtype(np.float16).itemsize if self.has_scales else 0
        return len(self.distinct) * (row + scales)

    @property
    def _any(self) -> Features:
        """A video of the stream: they are all of one width and type."""
        return self.features[str(self.video[0])]
