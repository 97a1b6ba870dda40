"""What is odd about the rows of a stream: their values and their times.

Promise: every row is read once, a few chunks at a time, and nothing is changed. Needs no torch.
Letters: R rows, D feature, K tokens of D features.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from antcache.annotations import Protocol
from antcache.doctor.report import Finding
from antcache.store import Features, Stream
from antcache.store.features import BLOCK_BYTES
from antcache.text import listed

LATE_S = 1.0
"""How far an annotation may reach past the last row, and the first row lie from the start."""
LONG_S, LONG_SHARE = 60.0, 1.5
"""Features are much longer than the annotations if they last over 60 s and half as long again.
(The longest that an EPIC-KITCHENS-55 video goes on is 122 s after the last of 325 s.)"""
STILL_S, STILL_SHARE = 2.0, 0.1
"""More equal rows in a row, or in a stream, than a video that stands still would give."""
UNEVEN = 1.5
"""By which factor the usual spacing of rows may differ from what their rate says."""

Bits = NDArray[np.unsignedinteger[Any]]

BITS: Mapping[str, tuple[str, int, int]] = {
    "float16": ("u2", 0x7FFF, 0x7C00),
    "float32": ("u4", 0x7FFFFFFF, 0x7F800000),
    "int8": ("u1", 0xFF, 0x100),
}
"""Of each type: integers as wide, all bits but the sign, and infinity (what is larger is none).
All bits of an int8 are its value, and none is infinite."""


@dataclass(frozen=True, kw_only=True)
class RowScan:
    """What was found in the rows of one video.

    Attributes:
        non_finite: positions of rows with an infinite value or one that is not a number.
        zero: positions of rows with no value but 0.
        repeated: rows that equal the row before them and are not zero.
        run: rows in the longest run of such rows, the first included; 0 without one.
        run_at: first row of that run.
    """

    non_finite: NDArray[np.int64]
    zero: NDArray[np.int64]
    repeated: int
    run: int
    run_at: int


def scan_rows(features: Features, read: Callable[[int], None]) -> RowScan:
    """Look at every row (R, D) or (R, K, D) of a video; `read` is told how many bytes were, block
    by block.

    Raises:
        DamagedStore: rows can't be read.
    """
    kind, no_sign, infinite = BITS[np.dtype(features.rows.dtype).name]
    num_rows, *row_shape = features.rows.shape
    peak = np.zeros(num_rows, dtype=np.uint32)  # largest value of each row, as an integer
    repeated = np.zeros(num_rows, dtype=bool)
    chunk = int(getattr(features.rows, "chunk_rows", 1))
    row_bytes = math.prod(row_shape) * features.rows.dtype.itemsize
    size = chunk * max(1, BLOCK_BYTES // max(1, chunk * row_bytes))
    last: Bits | None = None
    for start in range(0, num_rows, size):
        tokens: Bits = np.ascontiguousarray(features.rows[start : start + size]).view(kind)
        block, stop = tokens.reshape(len(tokens), -1), start + len(tokens)
        if features.scale is None:
            peak[start:stop] = (block & no_sign).max(axis=1, initial=0)
        else:
            scale = features.scale[start:stop]
            peak[start:stop] = (tokens.max(axis=2, initial=0) * (scale > 0)).max(axis=1)
        repeated[start + 1 : stop] = _equal(block[1:], block[:-1])
        if last is not None:
            repeated[start] = bool((block[0] == last).all())
        last = block[-1].copy()
        read(block.nbytes)
    if features.scale is not None:  # alike in int8, they may differ in their scales
        scale = features.scale[:]
        repeated[1:] &= (scale[1:] == scale[:-1]).all(axis=1)
    repeated &= peak != 0
    run, run_at = _longest(repeated)
    return RowScan(
        non_finite=np.flatnonzero(peak >= infinite),
        zero=np.flatnonzero(peak == 0),
        repeated=int(repeated.sum()),
        run=run,
        run_at=run_at,
    )


def _equal(
    rows: NDArray[np.unsignedinteger], other: NDArray[np.unsignedinteger]
) -> NDArray[np.bool_]:
    """Whether each row (n, D) equals the other's (n, D); few do, and those start alike."""
    equal = np.asarray((rows[:, :4] == other[:, :4]).all(axis=1))
    alike = np.flatnonzero(equal)
    equal[alike] = (rows[alike] == other[alike]).all(axis=1)
    return equal


def _longest(repeated: NDArray[np.bool_]) -> tuple[int, int]:
    """Rows of the longest run, and its first; `repeated` (R,) says who equals the row before."""
    edges = np.flatnonzero(np.diff(np.concatenate([[False], repeated, [False]]).astype(np.int8)))
    if not len(edges):
        return 0, 0
    lengths = edges[1::2] - edges[::2]
    longest = int(lengths.argmax())
    return int(lengths[longest]) + 1, int(edges[2 * longest]) - 1


def run_s(features: Features, scan: RowScan) -> float:
    """How long the longest run of equal rows lasts, in seconds."""
    if scan.run and features.listed:
        return time_of(features, scan.run_at + scan.run - 1) - time_of(features, scan.run_at)
    return scan.run / features.fps


def first_s(features: Features) -> float:
    """Time of the first row, of which there is one."""
    return features.start_s if features.times is None else float(features.times[0])


def last_s(features: Features) -> float:
    """Time of the last row, of which there is one."""
    if features.times is not None:
        return float(features.times[-1])
    return features.start_s + (features.num_rows - 1) / features.fps


def time_of(features: Features, row: int) -> float:
    """Time of a row."""
    times = features.times
    return features.start_s + row / features.fps if times is None else float(times[row])


def check_values(
    stream: str, features: Mapping[str, Features], scans: Mapping[str, RowScan]
) -> Iterator[Finding]:
    """Notes on rows that are not finite, all zero, or equal to the row before them.

    That a window looks at a row which is not finite is for `doctor` to say.
    """
    bad = {video: scan.non_finite for video, scan in scans.items() if len(scan.non_finite)}
    if bad:
        worst = sorted(bad, key=lambda v: -len(bad[v]))
        yield Finding(
            kind="non_finite_rows",
            missing=False,
            where=stream,
            text=f"{sum(map(len, bad.values()))} rows have values that are infinite or not "
            "numbers: " + listed([f"{v} ({len(bad[v])}, row {bad[v][0]} first)" for v in worst]),
            videos=tuple(worst),
        )
    zero = {video: len(scan.zero) for video, scan in scans.items() if len(scan.zero)}
    if zero:
        worst = sorted(zero, key=lambda v: -zero[v])
        yield Finding(
            kind="zero_rows",
            missing=False,
            where=stream,
            text=f"{sum(zero.values())} rows hold nothing but zeros: "
            + listed([f"{v} ({zero[v]})" for v in worst]),
            videos=tuple(worst),
        )
    seconds = {video: run_s(features[video], scan) for video, scan in scans.items() if scan.run}
    rows = sum(features[video].num_rows for video in scans)
    repeated = sum(scan.repeated for scan in scans.values())
    if not rows or not seconds:
        return
    worst = sorted(seconds, key=lambda v: -seconds[v])
    if seconds[worst[0]] > STILL_S or repeated > STILL_SHARE * rows:
        text = [
            f"{v} ({scans[v].repeated}; {scans[v].run} rows alike from "
            f"{time_of(features[v], scans[v].run_at):.1f} s on)"
            for v in worst
        ]
        yield Finding(
            kind="repeated_rows",
            missing=False,
            where=stream,
            text=f"{repeated} rows ({repeated / rows:.1%}) equal the row before: {listed(text)}",
            videos=tuple(worst),
        )


def check_times(
    stream: Stream, features: Mapping[str, Features], last_stop: Mapping[str, float]
) -> Iterator[Finding]:
    """Notes on rates and durations that disagree with the stream or the annotations.

    Args:
        stream: settings of the stream.
        features: its videos.
        last_stop: video -> when its last annotation stops, in seconds.
    """
    there = {video: f for video, f in features.items() if f.num_rows}
    end = {video: last_s(f) + 1 / f.fps for video, f in there.items()}

    def note(kind: str, what: str, cases: dict[str, tuple[float, str]]) -> Iterator[Finding]:
        worst = sorted(cases, key=lambda v: -cases[v][0])
        if worst:
            text = (
                f"{what} in {len(worst)} videos: {listed([f'{v} ({cases[v][1]})' for v in worst])}"
            )
            yield Finding(
                kind=kind, missing=False, where=stream.name, text=text, videos=tuple(worst)
            )

    yield from note(
        "annotations_end_later",
        "annotations reach past the features",
        {
            v: (last_stop[v] - end[v], f"to {last_stop[v]:.1f} s, features to {end[v]:.1f} s")
            for v in there
            if last_stop[v] > end[v] + LATE_S
        },
    )
    yield from note(
        "features_end_later",
        "features go on long after the annotations",
        {
            v: (end[v] - last_stop[v], f"to {end[v]:.1f} s, annotations to {last_stop[v]:.1f} s")
            for v in there
            if end[v] > LONG_SHARE * last_stop[v] + LONG_S
        },
    )
    yield from note(
        "other_rate",
        f"another rate than the stream's {stream.fps:g} per second",
        {
            v: (abs(f.fps - stream.fps), f"{f.fps:g}")
            for v, f in there.items()
            if f.fps != stream.fps
        },
    )
    spacing = {
        v: float(np.median(np.diff(f.times)))
        for v, f in there.items()
        if f.times is not None and f.num_rows > 2
    }
    yield from note(
        "other_spacing",
        "rows lie otherwise than their rate says",
        {
            v: (abs(np.log(s * there[v].fps)), f"{s:.3f} s apart, not {1 / there[v].fps:.3f} s")
            for v, s in spacing.items()
            if not 1 / UNEVEN <= s * there[v].fps <= UNEVEN
        },
    )
    yield from note(
        "late_start",
        f"the first row lies more than {LATE_S:g} s from the start",
        {
            v: (abs(first_s(f)), f"at {first_s(f):.1f} s")
            for v, f in there.items()
            if abs(first_s(f)) > LATE_S
        },
    )


def check_future(stream: Stream) -> Iterator[Finding]:
    """A finding if rows have seen what comes after their times."""
    if stream.sees_ahead_s > 0:
        yield Finding(
            kind="sees_future",
            missing=True,
            where=stream.name,
            text=f"rows have seen {stream.sees_ahead_s:.4g} s after their times, which is no "
            "anticipation: a student takes them with --allow-future only",
        )


def check_rate(stream: Stream, protocol: Protocol) -> Iterator[Finding]:
    """A note if frames of a window must share rows."""
    if stream.fps < protocol.rate * (1 - 1e-6):
        yield Finding(
            kind="low_rate",
            missing=False,
            where=stream.name,
            text=f"{stream.fps:g} rows per second for windows of {protocol.rate:g} frames per "
            "second: frames share rows",
        )
