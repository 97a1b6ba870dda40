"""Which frames a window takes: by exact arithmetic, or as the published code computes them.

Promise: each parity is the rule that its source states, frame for frame; `benchmarks/windows.py`
holds them against the published samplers on every segment. Frames are 1-based at 30 per second, and
frame j of T looks back `gap_s + (T - 1 - j) / rate` seconds from the start of the segment.
Letters: N segments, T frames.

    exact    the last frame at or before that time: floor((start - back) * 30), without float error
    avt      E - stride * (T - 1 - j), E = floor((start - gap_s) * 30) in float64 and
             stride = round(30 / rate), a whole number (facebookresearch/AVT)
    rulstm   floor((start - back) * 30) in float64 (fpv-iplab/rulstm): 14 frames at 4 per second
             with a gap of 0.25 s are its fourteen steps, and 11 with a gap of 1 s what it has seen
             when it anticipates by one second

AVT reads EPIC-KITCHENS from the official timestamps, and RULSTM from its own CSVs, whose times are
whole frames: on the other form, a parity is further from its source than exact arithmetic is.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from antcache.timebase import ANNOTATION_FPS, BOUNDARY, exact_floor

Frames = NDArray[np.int64]
Sampler = Callable[[NDArray[np.float64], float, NDArray[np.int64], float], Frames]
"""Takes starts (N,) in seconds, gap in seconds, frames back (T,) in steps and rate; returns frames
(N, T), below 1 where there is none."""


def _exact(start_s: NDArray[np.float64], gap_s: float, back: Frames, rate: float) -> Frames:
    return exact_floor((start_s - gap_s)[:, None] * ANNOTATION_FPS - back * (ANNOTATION_FPS / rate))


def _avt(start_s: NDArray[np.float64], gap_s: float, back: Frames, rate: float) -> Frames:
    last = np.floor((start_s - gap_s) * ANNOTATION_FPS).astype(np.int64)
    stride = max(1, round(ANNOTATION_FPS / rate))
    # It reads the observed time alone; a stride that was rounded up may ask for more.
    read = round(len(back) * ANNOTATION_FPS / rate)
    return np.where(back * stride < read, last[:, None] - back * stride, 0)


def _rulstm(start_s: NDArray[np.float64], gap_s: float, back: Frames, rate: float) -> Frames:
    seconds = start_s[:, None] - (gap_s + back / rate)
    return np.floor(seconds * ANNOTATION_FPS).astype(np.int64)


Parity = Literal["exact", "avt", "rulstm"]
PARITIES: dict[Parity, Sampler] = {"exact": _exact, "avt": _avt, "rulstm": _rulstm}


def window_frames(
    start_s: ArrayLike, *, gap_s: float, num_frames: int, rate: float, parity: Parity = "exact"
) -> tuple[Frames, NDArray[np.bool_]]:
    """Frames (N, T) of the windows of segments that start at `start_s` (N,), and which are padding.

    An index below 1 takes the smallest index of its window that is at least 1 (left padding by
    repetition). A window without any is all padding, and its segment has nothing to see.
    """
    start = np.asarray(start_s, dtype=np.float64)
    back = np.arange(num_frames - 1, -1, -1, dtype=np.int64)
    frames = PARITIES[parity](start, gap_s, back, rate)
    padded = frames < 1
    first = np.where(padded, np.iinfo(np.int64).max, frames).min(axis=1, keepdims=True)
    return np.where(padded, first, frames), padded


def of_another_form(parity: str, dataset: str, start_s: ArrayLike) -> str | None:
    """What is to be said where a parity meets annotations that its source does not read, or None.

    Args:
        parity: name of it.
        dataset: name of the dataset.
        start_s: (N,) starts of its segments in seconds; those of RULSTM's CSVs are whole frames.
    """
    frames = np.asarray(start_s, dtype=np.float64) * ANNOTATION_FPS
    whole = bool((np.abs(frames - np.round(frames)) <= BOUNDARY).all())
    if parity == "avt" and whole and dataset.startswith("epic-kitchens"):
        return (
            "parity avt is meant for the official timestamps, which AVT reads; on RULSTM's CSVs "
            "exact arithmetic is nearer to AVT's windows"
        )
    if parity == "rulstm" and not whole:
        return (
            "parity rulstm is meant for RULSTM's CSVs, whose times are whole frames; its features "
            "are at other frames than these windows ask for"
        )
    return None
