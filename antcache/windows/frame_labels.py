"""Which action is under way at each frame of a window: what past classification learns from.

Promise: pure numpy; a frame at which nothing is under way is `UNLABELLED`. Labels are those of one
split. Letters: N windows, T frames, M segments of a video.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from antcache.annotations import Protocol, Segments
from antcache.timebase import ANNOTATION_FPS, exact_ceil

UNLABELLED = -100
"""Label of a frame at which no segment is under way (what PyTorch's losses ignore)."""

BLOCK = 1 << 22
"""Comparisons of frames and segments that are held at once."""


def by_video(videos: NDArray[np.str_]) -> Iterator[tuple[str, NDArray[np.int64]]]:
    """Each video in `videos` (N,) with the positions at which it stands, ascending."""
    names, inverse = np.unique(videos, return_inverse=True)
    order = np.argsort(inverse, kind="stable")
    ends = np.cumsum(np.bincount(inverse, minlength=len(names)))
    for name, members in zip(names, np.split(order, ends[:-1]), strict=False):
        yield str(name), members


def frame_labels(
    frames: NDArray[np.int64], videos: NDArray[np.str_], segments: Segments
) -> NDArray[np.int64]:
    """Action under way at each of `frames` (N, T) of `videos` (N,); of several, the one begun last.

    A segment holds the frames n with `start_s <= n / 30 < stop_s`, and none if its stop is unknown.
    """
    stop_s = np.where(np.isnan(segments.stop_s), segments.start_s, segments.stop_s)
    first = exact_ceil(segments.start_s * ANNOTATION_FPS)
    end = exact_ceil(stop_s * ANNOTATION_FPS)
    in_video = dict(by_video(segments.video))
    labels = np.full(frames.shape, UNLABELLED, dtype=np.int64)
    for video, members in by_video(videos):
        seen = frames[members]
        low = int(seen.min())  # windows of a day after the start take no more than others
        track = np.full(seen.max() - low + 1, UNLABELLED, dtype=np.int64)
        own = in_video[video]
        for i in own[np.argsort(segments.start_s[own], kind="stable")]:
            track[max(0, first[i] - low) : max(0, end[i] - low)] = segments.action[i]
        labels[members] = track[seen - low]
    return labels


def avt_frame_labels(
    start_s: NDArray[np.float64],
    videos: NDArray[np.str_],
    segments: Segments,
    protocol: Protocol,
) -> NDArray[np.int64]:
    """The same as AVT has it, for windows before segments that start at `start_s` (N,): (N, T).

    Of several segments it takes the one whose *half duration* is nearest to the time of the frame,
    where its middle was meant, and a segment holds its stop as well. The frames' times are spread
    evenly over the observed time, both ends included, in float32. Padded frames have the label of
    the first one. Source: facebookresearch/AVT, `datasets/base_video_dataset.py`.
    """
    seconds = _avt_seconds(start_s, protocol)
    half = (segments.stop_s - segments.start_s) / 2
    in_video = dict(by_video(segments.video))
    labels = np.full(seconds.shape, UNLABELLED, dtype=np.int64)
    for video, members in by_video(videos):
        own = in_video[video]
        found = np.empty((len(members), seconds.shape[1]), dtype=np.int64)
        size = max(1, BLOCK // (len(own) * seconds.shape[1]))
        for low in range(0, len(members), size):
            at = seconds[members[low : low + size], :, None]
            holds = (segments.start_s[own] <= at) & (at <= segments.stop_s[own])
            away = np.where(holds, np.abs(at - half[own]), np.inf)
            action = segments.action[own][away.argmin(axis=2)]
            found[low : low + size] = np.where(holds.any(axis=2), action, UNLABELLED)
        labels[members] = found
    return labels


def _avt_seconds(start_s: NDArray[np.float64], protocol: Protocol) -> NDArray[np.float64]:
    """Times (N, T) that AVT gives the frames of its windows; all of them have a frame to see."""
    fps, rate, count = float(ANNOTATION_FPS), protocol.rate, protocol.num_frames
    end = start_s - protocol.gap_s
    begin = np.maximum(end - protocol.observed_s, 0)
    wanted = round(count * fps / rate)
    skipped = np.maximum((fps * (end - begin)).astype(np.int64) - wanted, 0)
    stop = np.minimum(end, begin + (skipped + wanted) / fps)
    begin = np.minimum(begin + skipped / fps, stop)
    read = np.floor(stop * fps).astype(np.int64) - np.floor(begin * fps).astype(np.int64)
    stride = max(1, round(fps / rate))
    place = (read - 1)[:, None] - stride * np.arange(count - 1, -1, -1)
    place = np.where(place < 0, (read - 1)[:, None] % stride, place)  # padded with the first kept
    return _spread(begin, stop, read, place)


def _spread(
    begin: NDArray[np.float64],
    stop: NDArray[np.float64],
    steps: NDArray[np.int64],
    place: NDArray[np.int64],
) -> NDArray[np.float64]:
    """Element `place` (N, T) of `torch.linspace(begin, stop, steps)`, each (N,), in its float32."""
    low, high = begin.astype(np.float32)[:, None], stop.astype(np.float32)[:, None]
    last = (steps - 1)[:, None]
    step = (high - low) / np.maximum(last, 1).astype(np.float32)
    rising = low + step * place.astype(np.float32)
    falling = high - step * (last - place).astype(np.float32)
    return np.where(place < steps[:, None] // 2, rising, falling).astype(np.float64)
