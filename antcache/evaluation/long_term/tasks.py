"""The two tasks of long-term anticipation: what was observed, and what came.

Promise: a past holds what was observed up to its moment; of an action that was still under way only
that it was, never when it ends. Both look at the segments of one split alone; a video lies in one.

- `ego4d` (Grauman et al. 2022): after each segment, in order of start (of two that start together,
  the one that stops first is the earlier), the next Z. A segment that fewer than Z follow is left
  out. The moment is the segment's end.
- `frames` (Abu Farha, Richard and Gall 2018): after a share of each video, the action at every
  frame of the next share of it. A video lasts until its last segment stops; its frames are 30 a
  second, frame f at f / 30 s. Published figures on 50 Salads and Breakfast count background as
  classes, and so a store's labels must hold it where figures are compared.

Letters: N pasts, h past actions at most, Z actions, F frames.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from antcache.annotations import Segments
from antcache.errors import BadConfig
from antcache.evaluation.long_term.frames import frames_ahead
from antcache.timebase import ANNOTATION_FPS, TOLERANCE_S, exact_ceil

NOTHING = -1
"""Label of a frame at which no segment is under way; nobody is asked about it."""


@dataclass(frozen=True, kw_only=True)
class ObservedPast:
    """What was observed of N videos, each up to some moment.

    Attributes:
        action: (N, h) int64 ids, oldest first, -1 on the left where there is nothing.
        start_s: (N, h) float64 seconds, NaN where there is nothing.
        stop_s: (N, h) float64 seconds, alike; at most the moment.
        now_s: (N,) float64, when the next action is expected to start.
    """

    action: NDArray[np.int64]
    start_s: NDArray[np.float64]
    stop_s: NDArray[np.float64]
    now_s: NDArray[np.float64]

    def __len__(self) -> int:
        return len(self.action)

    def __getitem__(self, rows: NDArray[np.int64] | slice) -> ObservedPast:
        """The pasts at `rows` (indices or a slice)."""
        return ObservedPast(
            action=self.action[rows],
            start_s=self.start_s[rows],
            stop_s=self.stop_s[rows],
            now_s=self.now_s[rows],
        )


@dataclass(frozen=True, kw_only=True)
class NextActions:
    """Ego4D's task.

    Attributes:
        past: N, one after each segment that enough others follow.
        following: (N, Z) int64, positions of the segments that follow.
        truth: (N, Z) int64, their actions.
        left_out: how many segments have fewer than Z after them.
    """

    past: ObservedPast
    following: NDArray[np.int64]
    truth: NDArray[np.int64]
    left_out: int


def next_actions(segments: Segments, *, steps: int, length: int) -> NextActions:
    """The task after each of `segments`: `steps` is Z, `length` h.

    Raises:
        BadConfig: no segment has so many others after it.
    """
    past, now_s, ahead = [], [], []
    for own in segments.in_order().values():
        for i in range(len(own) - steps):
            past.append(np.sort(own[: i + 1]))  # in the order of the file, as `_observed` has it
            now_s.append(segments.stop_s[own[i]])
            ahead.append(own[i + 1 : i + 1 + steps])
    if not past:
        raise BadConfig(
            f"no segment has {steps} others after it in its video",
            found=f"{len(segments)} segments of {len(segments.videos)} videos",
            hint="say fewer `steps`",
        )
    following = np.stack(ahead)
    return NextActions(
        past=_observed(segments, past, np.array(now_s), length),
        following=following,
        truth=segments.action[following],
        left_out=len(segments) - len(past),
    )


@dataclass(frozen=True, kw_only=True)
class RestOfVideo:
    """The frames' task in one video, after a share of it.

    Attributes:
        past: N = 1; its moment is the end of what was observed.
        under_way: place in the past of the action that may go on, None where none does; of several,
            the one begun last.
        truth: (F,) int64, the labels of the whole video, `NOTHING` where there is none.
    """

    past: ObservedPast
    under_way: int | None
    truth: NDArray[np.int64]


def rest_of_video(
    segments: Segments, video: str, *, observed: float, length: int
) -> RestOfVideo | None:
    """The task of one video after the share `observed`; None where not one frame is observed."""
    own = np.flatnonzero(segments.video == video)
    truth = frame_track(segments[own])
    seen = frames_ahead(len(truth), observed, 1 - observed).start
    if not seen:
        return None
    moment = seen / ANNOTATION_FPS
    rows = own[segments.start_s[own] < moment - TOLERANCE_S]
    past = _observed(segments, [rows], np.array([moment]), length)
    # What holds the last observed frame may go on: whether it ends just there is not to be seen.
    goes_on = past.stop_s[0] > (seen - 1) / ANNOTATION_FPS + TOLERANCE_S
    return RestOfVideo(
        past=past,
        under_way=int(np.flatnonzero(goes_on)[-1]) if goes_on.any() else None,
        truth=truth,
    )


def frame_track(segments: Segments) -> NDArray[np.int64]:
    """Action (F,) at each frame of one video; of several, the one begun last."""
    first = exact_ceil(segments.start_s * ANNOTATION_FPS)
    end = exact_ceil(segments.stop_s * ANNOTATION_FPS)
    track = np.full(int(end.max()), NOTHING, dtype=np.int64)
    for i in np.argsort(segments.start_s, kind="stable"):
        track[first[i] : end[i]] = segments.action[i]
    return track


def _observed(
    segments: Segments, rows: Sequence[NDArray[np.int64]], now_s: NDArray[np.float64], length: int
) -> ObservedPast:
    """What was observed by `now_s` (N,) of N times some `rows`; the last h in order of start.

    Their order is that of what was observed, too: two that start together and still go on are in
    the order of their file, whichever stops first.
    """
    action = np.full((len(rows), length), -1, dtype=np.int64)
    start_s, stop_s = np.full((2, len(rows), length), np.nan)
    for n, own in enumerate(rows):
        stop = np.minimum(segments.stop_s[own], now_s[n])
        last = np.lexsort((stop, segments.start_s[own]))[-length:]
        place = slice(length - len(last), length)
        action[n, place] = segments.action[own[last]]
        start_s[n, place] = segments.start_s[own[last]]
        stop_s[n, place] = stop[last]
    return ObservedPast(action=action, start_s=start_s, stop_s=stop_s, now_s=now_s)
