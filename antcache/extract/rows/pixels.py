"""How a video becomes pixels, said in one small value that any process can be given.

Promise: no model is needed, and what is made of a video depends on nothing but the video, the
recipe and the times. What is known of the video at its end comes last.
Letters: B clips of a batch, T frames of a clip, R rows of a video.
"""

from __future__ import annotations

from collections.abc import Callable, Generator
from contextlib import closing
from dataclasses import dataclass

import torch
from torch import Tensor

from antcache.extract.rows.clips import Clips, ListedClips, batches, uniform_clips
from antcache.extract.rows.moments import Times
from antcache.extract.rows.sampling import Sampling
from antcache.extract.videos.decode import VideoReader, VideoSampler
from antcache.extract.videos.pictures import Picture
from antcache.extract.videos.source import VideoFacts, VideoSource

FRAMES_PER_BATCH = 32
"""Frames that go through the backbone at once, unless a batch size is given."""


@dataclass(frozen=True, kw_only=True)
class PixelRecipe:
    """What of a video a backbone is shown, and in which form.

    Attributes:
        prepare: makes of pictures (B, H, W, 3) uint8 what crosses to the backbone, (B, ...): the
            bound `Preprocessing.levels` can be pickled; a method of one's own may not be.
        num_frames: frames T of a clip.
        clip_fps: frames per second within a clip; None for single frames.
        fps: rows per second, where no times are given.
        batch_size: clips of a batch, at most.
        max_gap_s: how far apart two frames may be, in seconds.
        allow_partial: accept what ends early, and stop where it ends.
    """

    prepare: Callable[[Tensor], Tensor]
    num_frames: int
    clip_fps: float | None
    fps: float
    batch_size: int
    max_gap_s: float = 2.0
    allow_partial: bool = False

    @property
    def unit(self) -> int:
        """Clips of a batch of 32 frames, or of one if that is less."""
        return min(self.batch_size, max(1, FRAMES_PER_BATCH // self.num_frames))

    @property
    def sampling(self) -> Sampling:
        """Rows at a uniform rate."""
        return Sampling.of(self.fps, num_frames=self.num_frames, clip_fps=self.clip_fps)

    def pixels(
        self, source: VideoSource, times: Times | None = None
    ) -> Generator[Tensor | VideoFacts, None, None]:
        """Batches (B, T, 3, height, width) of consecutive rows, and at last the video's facts.

        Args:
            source: the video.
            times: (R,) when rows are seen, in seconds; None at a uniform rate.

        Raises:
            UnreadableVideo: possibly after some batches.
        """
        reader, clips = self.clips(source, times)
        with closing(batches(clips, self.batch_size, source.path)) as made:
            yield from made
        yield reader.facts

    def clips(self, source: VideoSource, times: Times | None) -> tuple[VideoReader, Clips]:
        """The clips of all rows, one by one, and what reads them."""
        gap, partial = self.max_gap_s, self.allow_partial
        if times is not None:
            reader = VideoReader(source, max_gap_s=gap, allow_partial=partial)
            listed = ListedClips(times=times, num_frames=self.num_frames, clip_fps=self.clip_fps)
            return reader, listed.of(reader, self._prepared)
        sampling = self.sampling
        sampler = VideoSampler(
            source,
            rate=sampling.rate,
            wanted=sampling.wanted,
            max_gap_s=gap,
            allow_partial=partial,
        )
        return sampler, uniform_clips(sampler, sampling, self._prepared)

    def _prepared(self, picture: Picture) -> Tensor:
        return self.prepare(torch.from_numpy(picture)[None])[0]
