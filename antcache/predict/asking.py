"""Which times of a video are asked about, and which rows the window of each looks at.

Promise: windows are those of `antcache.windows.index`: of a segment that starts a gap after the
time. A time is asked about once, in ascending order; why one has no window is said in words.
Letters: N times, T frames of a window, R rows of a video.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Annotated, Any

import numpy as np
from numpy.typing import NDArray

from antcache.annotations import Protocol, Segments
from antcache.checks import Range, check_type
from antcache.errors import BadConfig
from antcache.extract.rows.moments import Times
from antcache.extract.videos.decode import TOLERANCE_S
from antcache.predict.answers import seconds
from antcache.store import Features, Stream
from antcache.windows.index import (
    BEFORE_FEATURES,
    NOT_KEPT,
    SHORT_FEATURES,
    TOO_EARLY,
    WindowIndex,
    exact_seconds,
)

LONGEST_S = 10**6
"""Eleven days: a later time is in no video."""
Every = Annotated[float, Range(0.001, LONGEST_S)]
Moment = Annotated[float, Range(0, LONGEST_S)]

AT_ONCE, SPAN_S = 256, 3600.0
"""Times whose windows are looked up together, and how far they lie apart at most."""

NEARLY_S = 0.1
"""More than what a window may reach back beyond its observed time, in seconds: a frame of 1/30."""

MANY_ROWS = 1 << 40
"""Rows of a video whose end is not known."""

VIDEO = "video"
"""What the one video is called where windows are looked up."""


@dataclass(frozen=True, kw_only=True)
class AskedTime:
    """A time, and the rows of its window.

    Attributes:
        time_s: in seconds.
        rows: (T,) int64, ascending; None where there is no window.
        reason: why there is none, as `antcache.windows.index` has it.
        oldest: no later time looks at a row before this one.
    """

    time_s: float
    rows: NDArray[np.int64] | None
    reason: str = ""
    oldest: int = 0


@dataclass(frozen=True, kw_only=True)
class _Shape:
    """Rows that are not there: what looks windows up sees their number and their kind."""

    shape: tuple[int, ...]
    dtype: np.dtype[Any]

    def __getitem__(self, index: Any) -> Any:
        raise AssertionError("no row is read where windows are looked up")


def segments_at(times_s: NDArray[np.float64], gap_s: float) -> Segments:
    """Segments (N) without labels that start `gap_s` after the times (N,)."""
    start = times_s + gap_s
    none = np.full(len(start), -1)
    return Segments.of(
        uid=np.arange(len(start)).astype(np.str_),
        video=np.full(len(start), VIDEO),
        start_s=start,
        stop_s=start + 1.0,
        verb=none,
        noun=none,
        action=none,
    )


def row_times(times_s: Times, protocol: Protocol) -> Times:
    """Times of all frames of the windows that end at some times (N,): where a stream of rows at
    windows has rows. Ascending, those that are one to float error once."""
    start = protocol.at(0.0)
    exact = np.sort(exact_seconds(segments_at(times_s, start.gap_s), start), axis=None)
    return exact[np.diff(exact, prepend=-np.inf) > TOLERANCE_S]


def windows_at(
    times_s: NDArray[np.float64],
    stream: Stream,
    protocol: Protocol,
    *,
    start_s: float,
    num_rows: int = MANY_ROWS,
    listed: Times | None = None,
) -> list[AskedTime]:
    """The windows that end at some times (N,) of one video.

    Args:
        times_s: in seconds.
        stream: what rows are of.
        protocol: what a window is.
        start_s: time of row 0.
        num_rows: how many rows there are.
        listed: (R,) times of the rows, where a stream keeps them at windows alone.
    """
    count = num_rows if listed is None else len(listed)
    features = Features(
        rows=_Shape(shape=(count, *stream.row_shape), dtype=np.dtype(stream.dtype)),
        fps=stream.fps,
        start_s=start_s,
        times=listed,
        listed=listed is not None,
    )
    before = protocol.at(0.0)  # the point of the action that windows are counted back from
    segments = segments_at(times_s, before.gap_s)
    index = WindowIndex.build({VIDEO: features}, segments, before, allow_missing=True)
    rows: list[NDArray[np.int64] | None] = [None] * len(times_s)
    for place, own in zip(index.segment.tolist(), index.rows, strict=True):
        rows[place] = own
    why = {int(uid): reason for reason, uids in index.dropped.items() for uid in uids}
    # A window that begins before the video is padded with its own first row, the next one perhaps
    # with an earlier one. From the first that is not padded on, rows ascend with the times.
    padded = times_s - before.observed_s - NEARLY_S < start_s
    return [
        AskedTime(
            time_s=float(time_s),
            rows=own,
            reason=why.get(i, ""),
            oldest=0 if own is None or padded[i] else int(own.min()),
        )
        for i, (time_s, own) in enumerate(zip(times_s, rows, strict=True))
    ]


def asked_times(at: Iterable[float]) -> Times:
    """Times that somebody lists, ascending, each once.

    Raises:
        BadConfig: there are none, or one is impossible.
    """
    found = [float(time) for time in at]
    for time in found:
        check_type("at", time, Moment)
    if not found:
        raise BadConfig("no times are asked for", expected="a time in seconds at least")
    ascending = np.sort(np.asarray(found))
    return ascending[np.diff(ascending, prepend=-np.inf) > TOLERANCE_S]


def multiples(every: float, until_s: float) -> Iterator[Times]:
    """The multiples of `every` above 0 and up to a time, in parts.

    Raises:
        BadConfig: an impossible step.
    """
    check_type("every", every, Every)
    last = math.floor((until_s + TOLERANCE_S) / every)
    for first in range(1, last + 1, AT_ONCE):
        ticks = np.arange(first, min(first + AT_ONCE, last + 1), dtype=np.float64)
        yield ticks * every


def in_parts(times_s: Times) -> Iterator[Times]:
    """Times (N,) in parts whose windows can be looked up together."""
    begin = 0
    while begin < len(times_s):
        stop = int(np.searchsorted(times_s, times_s[begin] + SPAN_S, side="right"))
        stop = min(stop, begin + AT_ONCE)
        yield times_s[begin:stop]
        begin = stop


def in_words(reason: str, last_s: float) -> str:
    """Why a time has no answer, of a video whose last frame is at `last_s`."""
    return {
        TOO_EARLY: "nothing was seen before it",
        BEFORE_FEATURES: "nothing was seen before it",
        SHORT_FEATURES: f"after the end of the video, whose last frame is at {seconds(last_s)}",
        NOT_KEPT: "its window begins before the video, and rows of this stream are at the times of "
        "windows alone",
    }.get(reason, reason)
