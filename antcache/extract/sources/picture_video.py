"""A video of numbered pictures, in a folder or a tar.

Promise: a picture is decoded only if a row needs it, and one that can't be is an `UnreadableVideo`.
A number that is missing between two others is one, too, unless gaps are to be filled: then the
picture before is shown on, as after a packet of a film that can't be decoded, and the rows say how
many were missing (`filled_frames`). Pictures may have several sizes.
"""

from __future__ import annotations

from collections.abc import Generator, Mapping
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

from antcache.errors import UnreadableVideo
from antcache.extract.sources.clocks import FrameClock
from antcache.extract.sources.decoding import decoded
from antcache.extract.sources.picture_files import PictureFiles, ends, open_pictures
from antcache.extract.videos.pictures import Picture
from antcache.extract.videos.source import VideoFacts

MOST_SIZES = 8
"""That rows say of their pictures."""


@dataclass(frozen=True)
class PictureVideo:
    """A folder or tar of pictures, when they were seen, and whether gaps are filled."""

    path: Path
    clock: FrameClock
    fill: bool = False

    def frames(self, *, max_gap_s: float, allow_partial: bool) -> PictureFrames:
        """Its pictures."""
        return PictureFrames(self, max_gap_s=max_gap_s, allow_partial=allow_partial)

    @property
    def times_from(self) -> Mapping[str, Any]:
        """The rate, or the table of times."""
        return self.clock.about

    def duration_s(self) -> float | None:
        """From the first to the last, as far as that can be told by the ends of a tar."""
        try:
            first, last = ends(self.path) or (0, 0)
            times = [self.clock.time(each, self.path) for each in (first, last)]
        except UnreadableVideo:
            return None
        return float(times[1] - times[0]) if last > first else None


class PictureFrames:
    """Reads the pictures of one video in the order of their numbers.

    Args:
        video: where they are.
        max_gap_s: how far apart two may be, in seconds.
        allow_partial: accept that the last of a table are missing.
    """

    def __init__(self, video: PictureVideo, *, max_gap_s: float, allow_partial: bool) -> None:
        self.path = video.path
        self.clock = video.clock
        self.fill = video.fill
        self.max_gap_s = max_gap_s
        self.allow_partial = allow_partial
        self.facts = VideoFacts(about=dict(video.times_from))
        if self.fill:
            self.facts.about["filled_frames"] = 0
        self._files: PictureFiles | None = None

    def __iter__(self) -> Generator[tuple[Fraction, int], None, None]:
        """Numbers of the pictures with their times in seconds, ascending."""
        self._files = open_pictures(self.path)
        last: tuple[int, Fraction] | None = None
        for number in sorted(self._files.numbers):
            time = self.clock.time(number, self.path)
            self._check_gap(last, number, time)
            self.facts.num_frames += 1
            last = number, time
            yield time, number
        if last is not None:
            self._check_end(last[0])

    def picture(self, frame: int) -> Picture:
        """A picture as it is shown."""
        assert self._files is not None
        picture = decoded(*self._files.read(frame))
        sizes = self.facts.about.setdefault("picture_sizes", [])
        size = f"{picture.shape[1]}x{picture.shape[0]}"
        if size not in sizes and len(sizes) < MOST_SIZES:
            sizes.append(size)
        return picture

    def _check_gap(self, last: tuple[int, Fraction] | None, number: int, time: Fraction) -> None:
        """Between two pictures there is room for no other, or for some that are filled in."""
        missing, first = self.clock.between(None if last is None else last[0], number)
        if missing and (last is None or not self.fill):
            raise UnreadableVideo(
                f"the picture {first} is missing",
                where=self.path,
                found=f"{'the first is' if last is None else f'{last[0]}, then'} {number}",
                hint="" if last is None else "--fill shows the one before in its place",
            )
        if last is not None and time - last[1] > self.max_gap_s:
            raise UnreadableVideo(
                "no picture for too long",
                where=self.path,
                expected=f"at most {self.max_gap_s:g} s between pictures",
                found=f"{last[0]} at {float(last[1]):.2f} s, then {number} at {float(time):.2f} s",
                hint="--max-gap, if that is how it was recorded",
            )
        if self.fill:
            self.facts.about["filled_frames"] += missing

    def _check_end(self, number: int) -> None:
        """The pictures reach the end that a table states."""
        missing, first = self.clock.between(number, None)
        self.facts.ended_early = missing > 0
        if missing and not self.allow_partial:
            raise UnreadableVideo(
                f"the picture {first} is missing, and all after it",
                where=self.path,
                found=f"{number}, then none of {missing} that are listed",
                hint="copy it again, or keep what is there with --allow-partial",
            )
