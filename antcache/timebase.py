"""The only place that turns seconds, frames and store rows into one another.

Promise: times are float64 seconds everywhere else, and converting them to frames or rows gives what
exact arithmetic would, although 0.1 s and 1/30 s have no exact float. Annotated times are multiples
of a frame (1/30 s, 1001/60000 s) or of 0.01 s; on any grid, such a time lies either on a frame
boundary or further than 1e-5 frames from one. A value within 1e-6 frames of a boundary therefore
*is* that boundary, and float error (under 1e-9 frames on a day-long video) never moves a frame.

Frames are 1-based and frame n is the one seen at n / fps seconds, as in the published annotations.
Rows are 0-based and row r of a video was seen at `start_s + r / fps` seconds.
"""

from __future__ import annotations

import re

import numpy as np
from numpy.typing import ArrayLike, NDArray

from antcache.errors import BadAnnotations

ANNOTATION_FPS = 30
"""Frames per second of the published annotations and of every frame index in this package."""

BOUNDARY = 1e-6
"""How close to a boundary, in frames or rows, a value counts as being on it."""

TOLERANCE_S = BOUNDARY / ANNOTATION_FPS
"""The same in seconds, of annotated frames."""

TIMESTAMP = re.compile(r"(\d{1,4}):([0-5]?\d):([0-5]?\d(?:\.\d+)?)")


def exact_floor(values: ArrayLike) -> NDArray[np.int64]:
    """Floor of float64 `values` (any shape) as exact arithmetic would give it; see the module."""
    return np.floor(np.asarray(values, dtype=np.float64) + BOUNDARY).astype(np.int64)


def exact_ceil(values: ArrayLike) -> NDArray[np.int64]:
    """Ceiling of float64 `values` (any shape), likewise."""
    return -exact_floor(-np.asarray(values, dtype=np.float64))


def frames_to_seconds(frames: ArrayLike, fps: float = ANNOTATION_FPS) -> NDArray[np.float64]:
    """Time in seconds at which each frame is seen."""
    return np.asarray(frames, dtype=np.float64) / fps


def seconds_to_frames(seconds: ArrayLike, fps: float = ANNOTATION_FPS) -> NDArray[np.int64]:
    """Last frame seen at or before each time in seconds (0: nothing has been seen yet)."""
    return exact_floor(np.asarray(seconds, dtype=np.float64) * fps)


def rows_at(seconds: ArrayLike, fps: float, start_s: float = 0.0) -> NDArray[np.int64]:
    """Last store row seen at or before each time in seconds; negative before the first row."""
    return exact_floor((np.asarray(seconds, dtype=np.float64) - start_s) * fps)


def rows_at_times(seconds: ArrayLike, times: NDArray[np.float64]) -> NDArray[np.int64]:
    """The same for a video whose row times (rows,) are listed, ascending; -1 before the first."""
    late = np.asarray(seconds, dtype=np.float64) + BOUNDARY / ANNOTATION_FPS
    return np.searchsorted(times, late, side="right").astype(np.int64) - 1


def parse_timestamp(text: str) -> float:
    """Seconds of an `HH:MM:SS.ss` timestamp.

    Raises:
        BadAnnotations: the text has another form.
    """
    match = TIMESTAMP.fullmatch(text.strip())
    if match is None:
        raise BadAnnotations("not a timestamp", expected="HH:MM:SS.ss", found=repr(text[:40]))
    hours, minutes, seconds = match.groups()
    return int(hours) * 3600 + int(minutes) * 60 + float(seconds)


def last_observed_frames(start_s: ArrayLike, gap_s: float) -> NDArray[np.int64]:
    """Last frame (at 30 fps) that may be seen before segments that start at `start_s` (N,)."""
    return seconds_to_frames(np.asarray(start_s, dtype=np.float64) - gap_s)
