"""Pictures of a video at any times: the last frame at or before each, never a later one.

Promise: times are compared exactly (as fractions); the first frame may come later than time 0
(`VideoFacts.start_s`). Frame rates may vary. Only the pictures that are asked for are made, one by
one, so memory does not grow with the length of the video; whether or not the frames between them
are decoded, they are the same. A video without any decodable frame is an
`UnreadableVideo`. What its frames are, and what they promise, is said by its source.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Generator, Iterator
from contextlib import closing
from fractions import Fraction
from pathlib import Path
from typing import Any

from antcache.errors import UnreadableVideo
from antcache.extract.videos.containers import MAX_PIXELS
from antcache.extract.videos.film_frames import FilmFile
from antcache.extract.videos.nvdec import Decoder
from antcache.extract.videos.pictures import Picture
from antcache.extract.videos.source import (
    STILL_WANTED,
    Needed,
    OfFilms,
    VideoFacts,
    VideoSource,
    frames_of,
)
from antcache.timebase import ANNOTATION_FPS, BOUNDARY

CONVENTION = 1
"""Version of the rules in this room; part of every stream's fingerprint."""


TOLERANCE_S = BOUNDARY / ANNOTATION_FPS
"""How far from a frame's time a time in seconds is at it."""


def every_tick(tick: int) -> bool:
    """Ask for all pictures of the grid."""
    return True


def source_of(video: Path | VideoSource, decoder: Decoder = "cpu") -> VideoSource:
    """A path as the file that it names, to be decoded so; a source as it is."""
    if isinstance(video, Path):
        return FilmFile(video, decoder=decoder)
    return video.decoded_by(decoder) if isinstance(video, OfFilms) else video


class VideoReader:
    """Decodes one video, once for each call of `shown`.

    Args:
        video: the file, or another source of frames.
        max_gap_s: how far apart two frames may be, in seconds.
        allow_partial: accept what ends early, and stop where it ends.
    """

    def __init__(
        self, video: Path | VideoSource, *, max_gap_s: float = 2.0, allow_partial: bool = False
    ) -> None:
        source = source_of(video)
        self.path = source.path
        self.frames = source.frames(max_gap_s=max_gap_s, allow_partial=allow_partial)

    @property
    def facts(self) -> VideoFacts:
        """What is known of the video so far."""
        return self.frames.facts

    def shown(
        self, wanted: Callable[[float, float], bool]
    ) -> Generator[tuple[float, float, Picture], None, None]:
        """Pictures that are `wanted(since, until)`, each with the times at which it is seen.

        A picture is seen from its frame's time until before the next frame's, the last one at its
        own time only, and the first one also (`since` is -infinity) before there is any. Times are
        seconds; what is within float error of a frame's time is at it, see `timebase`.

        Raises:
            UnreadableVideo: possibly after some pictures.
        """

        def needed(start: Fraction, since: Fraction, until: Fraction) -> bool:
            return wanted(float(since) - TOLERANCE_S, float(until) - TOLERANCE_S)

        with closing(self._intervals(needed)) as intervals:
            for since, until, frame in intervals:
                first = float(since) == self.facts.start_s
                begin = -math.inf if first else float(since) - TOLERANCE_S
                end = float(since) + TOLERANCE_S if until is None else float(until) - TOLERANCE_S
                if wanted(begin, end):
                    assert frame is not None
                    yield begin, end, self.frames.picture(frame)

    def _intervals(
        self, needed: Needed
    ) -> Generator[tuple[Fraction, Fraction | None, Any], None, None]:
        """Intact frames, each with its time and the next one's; the last has none. The first and
        the last are there; others are None where they are not needed.

        Raises:
            UnreadableVideo: possibly after some frames.
        """
        last: tuple[Fraction, Any] | None = None
        check = STILL_WANTED.get()
        with closing(frames_of(self.frames, needed)) as frames:
            for time, frame in frames:
                check()
                if last is None:
                    self.facts.start_s = float(time)
                elif time > last[0]:  # of several frames of one time, the last is seen
                    yield last[0], time, last[1]
                last = time, frame
        if last is None:
            raise UnreadableVideo(
                "nothing in it can be decoded",
                where=self.path,
                found=f"{self.facts.skipped_packets} undecodable packets",
                hint=f"pictures have at most {MAX_PIXELS} pixels",
            )
        self.facts.last_s = float(last[0])
        yield last[0], None, last[1]


class VideoSampler(VideoReader):
    """Iterates over `(tick, picture)` of one video, ticks ascending; picture (H, W, 3) uint8 RGB.

    Tick k is the time `start_s + k / rate`; the ticks end with the last frame's time. A picture
    that is shown at several ticks is the same array each time.

    Args:
        video: the file, or another source of frames.
        rate: ticks per second, exact.
        wanted: which ticks to produce.
        options: those of `VideoReader`.
    """

    def __init__(
        self,
        video: Path | VideoSource,
        *,
        rate: Fraction,
        wanted: Callable[[int], bool] = every_tick,
        **options: Any,
    ) -> None:
        super().__init__(video, **options)
        self.rate = rate
        self.wanted = wanted

    def __iter__(self) -> Generator[tuple[int, Picture], None, None]:
        """Decode the video; raises `UnreadableVideo`, possibly after some pictures."""
        start: Fraction | None = None
        tick = 0
        with closing(self._intervals(self._needed)) as intervals:
            for since, until, frame in intervals:
                start = since if start is None else start
                if until is None:
                    stop = math.floor((since - start) * self.rate) + 1
                else:  # seen until the moment before
                    stop = math.ceil((until - start) * self.rate)
                yield from self._pictures(frame, tick, stop)
                tick = max(tick, stop)

    def _needed(self, start: Fraction, since: Fraction, until: Fraction) -> bool:
        ticks = range(
            math.ceil((since - start) * self.rate), math.ceil((until - start) * self.rate)
        )
        return any(map(self.wanted, ticks))

    def _pictures(self, frame: Any, first: int, stop: int) -> Iterator[tuple[int, Picture]]:
        picture = None
        for tick in range(first, stop):
            if self.wanted(tick):
                assert frame is not None
                picture = self.frames.picture(frame) if picture is None else picture
                yield tick, picture
