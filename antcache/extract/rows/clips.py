"""Pictures put together to clips, and clips to batches, while a video is decoded.

Promise: of the pictures of a video only those are held that a later clip may still need; a clip
ends at its row's time and no picture in it is of a later frame. Pictures before the first frame
repeat it. The clips of a batch have one shape; pictures of a film may change theirs, and some
backbones see them in it.
Letters: B clips of a batch, T frames of a clip, R rows of a video.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Generator
from contextlib import closing
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from antcache.errors import UnreadableVideo
from antcache.extract.rows.moments import Times
from antcache.extract.rows.sampling import Sampling
from antcache.extract.videos.decode import TOLERANCE_S, VideoReader, VideoSampler
from antcache.extract.videos.pictures import Picture
from antcache.store.location import Location

Prepare = Callable[[Picture], Tensor]
"""Makes pixels of a picture (H, W, 3) uint8."""
Clips = Generator[list[Tensor], None, None]
"""The T pixels of each row's clip, row by row."""


@dataclass(frozen=True, kw_only=True)
class ListedClips:
    """Clips that end at given times.

    Attributes:
        times: (R,) where they end, in seconds, ascending.
        num_frames: frames T of a clip.
        clip_fps: frames per second within a clip; None for one frame.
    """

    times: Times
    num_frames: int
    clip_fps: float | None

    @property
    def looks(self) -> NDArray[np.float64]:
        """Times (R, T) of the frames of each clip, ascending in each; some are before the video."""
        back = np.arange(self.num_frames - 1, -1, -1) / (self.clip_fps or 1.0)
        return self.times[:, None] - back

    def of(self, reader: VideoReader, prepare: Prepare) -> Clips:
        """The clips of a video: of those times that lie in it."""
        looks = self.looks
        ascending = np.sort(looks, axis=None)

        def wanted(since: float, until: float) -> bool:
            place = int(np.searchsorted(ascending, since))
            return place < len(ascending) and bool(ascending[place] < until)

        kept: list[tuple[float, Tensor]] = []  # since when each is seen, and its pixels
        row: int | None = None
        with closing(reader.shown(wanted)) as pictures:
            for since, until, picture in pictures:
                if row is None:  # those before the first frame see nothing
                    row = int(np.searchsorted(self.times, reader.facts.start_s - TOLERANCE_S))
                kept.append((since, prepare(picture)))
                while row < len(self.times) and self.times[row] < until:
                    seen = [since for since, _ in kept]
                    yield [kept[bisect_right(seen, look) - 1][1] for look in looks[row]]
                    row += 1
                if row < len(self.times):  # the last that the next clip begins with, and all after
                    oldest = bisect_right(kept, looks[row, 0], key=lambda each: each[0]) - 1
                    kept = kept[oldest:]


def uniform_clips(sampler: VideoSampler, sampling: Sampling, prepare: Prepare) -> Clips:
    """The clips of rows at a uniform rate."""
    pixels: dict[int, Tensor] = {}  # by tick: what later rows may still look at
    with closing(iter(sampler)) as pictures:
        for tick, picture in pictures:
            pixels[tick] = prepare(picture)
            ticks = sampling.clip_ending_at(tick)
            if ticks is not None:
                yield [pixels[t] for t in ticks]
            oldest = sampling.oldest_needed_after(tick)
            pixels = {t: p for t, p in pixels.items() if t >= oldest}


def batches(clips: Clips, size: int, path: Location) -> Generator[Tensor, None, None]:
    """Pixels (B, T, 3, height, width) of consecutive clips, at most `size` of them.

    Raises:
        UnreadableVideo: the pictures of a clip have several shapes.
    """
    waiting: list[Tensor] = []
    with closing(clips):
        for frames in clips:
            if waiting and waiting[0].shape[1:] != frames[-1].shape:
                yield torch.stack(waiting)
                waiting = []
            waiting.append(one_clip(frames, path))
            if len(waiting) == size:
                yield torch.stack(waiting)
                waiting = []
        if waiting:
            yield torch.stack(waiting)


def one_clip(frames: list[Tensor], path: Location) -> Tensor:
    """The frames (T, ...) of a clip, which have one shape.

    Raises:
        UnreadableVideo: they have several.
    """
    shapes = [tuple(frame.shape) for frame in frames]
    if len(set(shapes)) > 1:
        raise UnreadableVideo(
            "its pictures change their shape within a clip",
            where=path,
            expected=shapes[0],
            found=shapes[-1],
            hint="a backbone of pictures, or one that brings all to one size, takes them",
        )
    return torch.stack(frames)
