"""Several files that are one recording: one axis of time.

Promise: unless it is said when a chapter begins, its first frame comes one frame after the last of
the chapter before, where one frame is the time between the last two: exact where the rate is
constant. After a chapter that breaks off, or in which frames are lost, nobody knows when the next
one begins, and the recording is refused. Chapters may differ in size; their starts, gaps and
sizes are kept with the rows.
"""

from __future__ import annotations

from collections.abc import Generator
from contextlib import closing
from dataclasses import dataclass, replace
from fractions import Fraction
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from antcache.errors import UnreadableVideo
from antcache.extract.videos.finding import Video, path_of
from antcache.extract.videos.pictures import Picture
from antcache.extract.videos.source import (
    Frames,
    Needed,
    VideoFacts,
    VideoSource,
    file_name,
    files_of,
    frames_of,
)
from antcache.store.location import Location
from antcache.text import utf8

if TYPE_CHECKING:
    from antcache.extract.videos.nvdec import Decoder


@dataclass(frozen=True)
class Chapter:
    """A part of a recording, and when its time 0 is on the recording's axis; None: it follows."""

    video: Video
    start_s: Fraction | None = None

    @property
    def path(self) -> Location:
        """Where it lies."""
        return path_of(self.video)

    @property
    def source(self) -> VideoSource:
        """Where its frames come from."""
        from antcache.extract.videos.decode import source_of  # PyAV is not needed to find videos

        return source_of(self.video)


@dataclass(frozen=True)
class Chapters:
    """A recording in several files, in their order."""

    parts: tuple[Chapter, ...]

    @property
    def path(self) -> Location:
        """Of its first file."""
        return self.parts[0].path

    def frames(self, *, max_gap_s: float, allow_partial: bool) -> ChapterFrames:
        """Its frames."""
        return ChapterFrames(self.parts, max_gap_s=max_gap_s, allow_partial=allow_partial)

    def decoded_by(self, decoder: Decoder) -> Chapters:
        """See `OfFilms`."""
        from antcache.extract.videos.decode import source_of

        parts = (replace(part, video=source_of(part.video, decoder)) for part in self.parts)
        return Chapters(tuple(parts))

    def duration_s(self) -> float | None:
        """The stated lengths of its files, one after the other."""
        end = 0.0
        for part in self.parts:
            length = part.source.duration_s()
            if length is None:
                return None
            end = (end if part.start_s is None else float(part.start_s)) + length
        return end

    def files(self) -> tuple[Path, ...]:
        """See `OfFiles`."""
        sources = [part.source for part in self.parts]
        found = [files_of(each) for each in sources]
        return tuple(file for files in found for file in files) if all(found) else ()


class ChapterFrames:
    """Reads chapters one after the other.

    Args:
        parts: the chapters.
        max_gap_s: how far apart two frames may be, in seconds, across chapters too.
        allow_partial: accept that the last one breaks off, or one before a stated start.
    """

    def __init__(
        self, parts: tuple[Chapter, ...], *, max_gap_s: float, allow_partial: bool
    ) -> None:
        self.parts = parts
        self.max_gap_s = max_gap_s
        options: dict[str, Any] = {"max_gap_s": max_gap_s, "allow_partial": allow_partial}
        self._frames: list[Frames] = [part.source.frames(**options) for part in parts]
        names = [utf8(file_name(part.path)) for part in parts]
        self._sizes = [""] * len(parts)
        self._starts: list[float] = []
        self._gaps: list[float] = []
        self.facts = VideoFacts(
            about={
                **self._frames[0].facts.about,
                "chapters": names,
                "chapter_starts_s": self._starts,
                "chapter_gaps_s": self._gaps,
                "chapter_sizes": self._sizes,
            }
        )

    def __iter__(self) -> Generator[tuple[Fraction, Any], None, None]:
        """Frames of all chapters, each with the number of its own, and their times in seconds."""
        return self.only(lambda start, since, until: True)

    def only(self, needed: Needed) -> Generator[tuple[Fraction, Any], None, None]:
        """See `SparingFrames`."""
        seam, first = _Seam(), None
        for number, (part, frames) in enumerate(zip(self.parts, self._frames, strict=True)):
            shift: Fraction | None = None
            of_part = partial(_needed, needed, part, seam, first)
            with closing(frames_of(frames, of_part)) as given:
                for time, frame in given:
                    if shift is None:
                        shift = self._shift(part, time, seam, frames.facts)
                        self._check_order(part, time + shift, seam.last)
                        first = time + shift if first is None else first
                    self._count()
                    seam.note(time + shift)
                    yield time + shift, None if frame is None else (number, frame)
            self._count()
            seam.end(frames.facts)

    def picture(self, frame: tuple[int, Any]) -> Picture:
        """A frame as it is shown."""
        number, own = frame
        picture = self._frames[number].picture(own)
        self._sizes[number] = self._sizes[number] or f"{picture.shape[1]}x{picture.shape[0]}"
        return picture

    def _shift(self, part: Chapter, first: Fraction, seam: _Seam, facts: VideoFacts) -> Fraction:
        """What is added to the times of a chapter."""
        if not self._starts:
            self.facts.pixel_aspect = facts.pixel_aspect
        if part.start_s is not None or seam.last is None:
            shift = part.start_s or Fraction(0)
            begin = seam.begin
            self._gaps.append(0.0 if begin is None else float(first + shift - begin))
        else:
            begin = None if _lost(facts) else seam.begin
            if begin is None:
                raise UnreadableVideo(
                    "nobody knows when this chapter begins",
                    where=part.path,
                    found="lost frames, or a chapter before it that breaks off or has one frame",
                    hint="say it in a table of chapters, as start_s",
                )
            shift = begin - first
            self._gaps.append(0.0)
        self._starts.append(float(first + shift))
        return shift

    def _check_order(self, part: Chapter, time: Fraction, last: Fraction | None) -> None:
        if last is None or 0 < time - last <= self.max_gap_s:
            return
        late = time > last
        raise UnreadableVideo(
            "a chapter begins too long after the one before" if late else "chapters overlap",
            where=part.path,
            expected=f"at most {self.max_gap_s:g} s between frames" if late else "",
            found=f"{float(last):.3f} s, then {float(time):.3f} s",
            hint="--max-gap, if that is how it was recorded" if late else "",
        )

    def _count(self) -> None:
        """Add up what is known of the chapters."""
        every = [frames.facts for frames in self._frames]
        self.facts.num_frames = sum(each.num_frames for each in every)
        self.facts.unneeded_frames = sum(each.unneeded_frames for each in every)
        self.facts.skipped_packets = sum(each.skipped_packets for each in every)
        self.facts.skipped_frames = sum(each.skipped_frames for each in every)
        self.facts.ended_early = any(each.ended_early for each in every)


class _Seam:
    """What is known of the end of a chapter, while it is read.

    Attributes:
        last: time of the last frame so far, of any chapter.
        begin: when the next chapter's first frame is due; None if nobody knows.
    """

    def __init__(self) -> None:
        self.last: Fraction | None = None
        self.begin: Fraction | None = None
        self._step: Fraction | None = None
        self._fresh = True  # no frame of this chapter yet

    def note(self, time: Fraction) -> None:
        """A frame is given."""
        self._step = None if self._fresh or self.last is None else time - self.last
        self.last, self._fresh = time, False

    def end(self, facts: VideoFacts) -> None:
        """The chapter is at its end."""
        # A decoder is ahead of the frames it gives: a loss can't be told to lie before the end.
        self.begin = None
        if self.last is not None and self._step and not _lost(facts) and not facts.ended_early:
            self.begin = self.last + self._step
        self._fresh = True


def _needed(
    needed: Needed,
    part: Chapter,
    seam: _Seam,
    first: Fraction | None,
    start: Fraction,
    since: Fraction,
    until: Fraction,
) -> bool:
    """Whether a frame of a chapter is needed, by its times in the chapter.

    Args:
        needed: the same of the recording, which has begun at `first`, or begins with this chapter.
        part: the chapter, which begins at `start`.
        seam: what is known of the end of the one before.
        since: when the frame is first seen, and `until` when the next one is.
    """
    shift = part.start_s or Fraction(0)
    if part.start_s is None and first is not None:
        begin = seam.begin
        if begin is None:  # and that will be said
            return True
        shift = begin - start
    return needed(start + shift if first is None else first, since + shift, until + shift)


def _lost(facts: VideoFacts) -> int:
    return facts.skipped_packets + facts.skipped_frames
