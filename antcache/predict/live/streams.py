"""Frames of a live source, or of a recording at a URL, as a video has them.

Promise: `LiveVideo` is a `VideoSource`, so that the rows that are made of it are those that
extraction would make of the same frames. Times are those of `LiveTimes`, from the first frame that
could be decoded. After a packet that can't be decoded, or is not whole, frames are passed over
until the next key frame, as in files.
"""

from __future__ import annotations

import time
from collections.abc import Generator
from fractions import Fraction
from typing import TYPE_CHECKING, Any

from antcache.errors import UnreadableVideo
from antcache.extract.videos.film import pixel_aspect
from antcache.extract.videos.packets import whole_frames
from antcache.extract.videos.pictures import (
    Orientation,
    Picture,
    orientation,
    shown_size,
    upright_rgb,
)
from antcache.extract.videos.pyav import av
from antcache.extract.videos.source import VideoFacts
from antcache.predict.live.opening import SILENCE_S, OpenedSource
from antcache.predict.live.places import Camera, StreamUrl
from antcache.predict.live.times import LiveTimes, Now

if TYPE_CHECKING:
    from av.video.frame import VideoFrame

MOST_BROKEN = 1000
"""Packets in a row that can't be decoded, after which a source is given up."""


class LiveVideo:
    """An opened source as a video, or as several: after a gap, `frames` gives those behind it.

    Args:
        place: where it comes from.
        opened: the source; closed when its frames end, or by `close`.
        now: the clock.

    Attributes:
        path: what messages call it.
        times: of its frames.
        more: whether there are frames behind a gap.
        shown_s: when the frame arrived that was shown last, by the clock.
        shown_breaks: `times.breaks` up to that frame.
        num_frames, skipped_packets: of all its parts.
    """

    def __init__(
        self, place: Camera | StreamUrl, opened: OpenedSource, now: Now = time.monotonic
    ) -> None:
        self.path = str(place)
        self.opened = opened
        self.times = LiveTimes()
        self.more = False
        self.shown_s = now()
        self.shown_breaks = 0
        self.num_frames = self.skipped_packets = 0
        self._now = now
        self._frames = self._decoded()
        self._zero: Fraction | None = None
        self._next: tuple[Fraction, VideoFrame, float] | None = None

    def frames(self, *, max_gap_s: float, allow_partial: bool) -> LiveFrames:
        """Its frames up to the next gap that is longer than `max_gap_s`; see `VideoSource`."""
        return LiveFrames(self, max_gap_s)

    def duration_s(self) -> float | None:
        """Nobody knows it."""
        return None

    def close(self) -> None:
        """Close the source; only the thread that reads it may."""
        self._frames.close()
        self.opened.container.close()

    def next_frame(self) -> tuple[Fraction, VideoFrame, float] | None:
        """The next intact frame, its time in seconds, and when it arrived by the clock; None at the
        end.

        Raises:
            UnreadableVideo: it broke off, or nothing more of it can be decoded.
        """
        if self._next is not None:
            found, self._next, self.more = self._next, None, False
            return found
        frame = next(self._frames, None)
        if frame is None:
            return None
        arrived_s = self._now()
        stamp = _stamp(frame) if self.opened.dated else None
        self.num_frames += 1
        return self._time(stamp, arrived_s), frame, arrived_s

    def keep(self, found: tuple[Fraction, VideoFrame, float]) -> None:
        """Keep a frame for those who ask for frames next."""
        self._next, self.more = found, True

    def _time(self, stamp: Fraction | None, arrived_s: float) -> Fraction:
        """When a frame was taken; those of a recording have their own times."""
        if self.opened.live:
            return self.times(stamp, arrived_s)
        if stamp is None:
            raise UnreadableVideo("frames without timestamps", where=self.path)
        self._zero = stamp if self._zero is None else self._zero
        return stamp - self._zero

    def _decoded(self) -> Generator[VideoFrame, None, None]:
        damaged, broken = False, 0
        packets = self.opened.container.demux(self.opened.stream)
        while True:
            try:
                packet = next(packets, None)
            except av.FFmpegError as error:
                raise self._broken_off(error) from error
            if packet is None:
                return
            frames = whole_frames(packet)
            if frames is None:
                self.skipped_packets += 1
                damaged, broken = True, broken + 1
                if broken > MOST_BROKEN:
                    raise UnreadableVideo(
                        "nothing in it can be decoded any more",
                        where=self.path,
                        found=f"{broken} undecodable packets in a row",
                    )
                continue
            for frame in frames:
                assert isinstance(frame, av.VideoFrame)
                broken = 0
                damaged = frame.is_corrupt or (damaged and not frame.key_frame)
                if not damaged:
                    yield frame

    def _broken_off(self, error: Any) -> UnreadableVideo:
        silent = isinstance(error, av.error.ExitError)
        return UnreadableVideo(
            "it broke off",
            where=self.path,
            found=f"nothing for {SILENCE_S:g} s" if silent else error.strerror or error,
        )


def _stamp(frame: VideoFrame) -> Fraction | None:
    stamp = frame.dts if frame.pts is None else frame.pts
    return None if stamp is None or frame.time_base is None else stamp * frame.time_base


class LiveFrames:
    """Frames of a source up to a gap.

    Args:
        video: the source.
        max_gap_s: how far apart two frames may be, in seconds.

    Attributes:
        facts: see `Frames`.
    """

    def __init__(self, video: LiveVideo, max_gap_s: float) -> None:
        self.video = video
        self.facts = VideoFacts(pixel_aspect=pixel_aspect(video.opened.stream))
        self._max_gap_s = max_gap_s
        self._arrived: list[tuple[Any, float, int]] = []
        self._orientation: Orientation | None = None
        self._rotation = 0

    def __iter__(self) -> Generator[tuple[Fraction, VideoFrame], None, None]:
        """Intact frames with their times in seconds, ascending.

        Raises:
            UnreadableVideo: see `LiveVideo.next_frame`; or times of a recording jump.
        """
        last: Fraction | None = None
        while (found := self.video.next_frame()) is not None:
            time, frame, arrived_s = found
            if last is not None and not 0 <= time - last <= self._max_gap_s:
                if self.video.opened.live:
                    self.video.keep(found)
                    return
                raise UnreadableVideo(
                    "no intact frame for too long" if time > last else "timestamps run backwards",
                    where=self.video.path,
                    expected=f"at most {self._max_gap_s:g} s between frames",
                    found=f"{float(last):.2f} s, then {float(time):.2f} s",
                )
            last = time
            arrived = frame, arrived_s, self.video.times.breaks
            self._arrived = [*self._arrived[-1:], arrived]
            self.facts.num_frames += 1
            yield time, frame

    def picture(self, frame: Any) -> Picture:
        """See `Frames`."""
        arrived = next(arrived for arrived in self._arrived if arrived[0] is frame)
        _, self.video.shown_s, self.video.shown_breaks = arrived
        size = shown_size(frame, self.facts.pixel_aspect, self.video.path)
        # Side data is read as rarely as in files: it ties a frame into a cycle of references.
        if self._orientation is None or frame.rotation != self._rotation:
            self._orientation = orientation(frame, self.video.path)
            self._rotation = frame.rotation
        return upright_rgb(frame, size, self._orientation)
