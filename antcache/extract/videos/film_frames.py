"""The frames of one video file, with their exact times.

Promise: times are the container's own timestamps (as fractions). Time 0 is the container's start,
as in players and in FFmpeg, so that annotated times apply; the first frame may come later.

Nothing is made up. After a packet that can't be decoded, frames are passed over until the next key
frame, because those between are predicted from what is missing. Frames further apart than
`max_gap_s`, and a file that ends before the end that it states, are `UnreadableVideo`. Not covered:
damage that the decoder itself does not notice.

How a file is opened, and which of its streams is decoded, is said in `film.py`.
"""

from __future__ import annotations

from collections.abc import Generator, Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Any

from antcache.errors import UnreadableVideo
from antcache.extract.videos.film import duration_s, film, open_container, pixel_aspect
from antcache.extract.videos.pictures import (
    Orientation,
    Picture,
    orientation,
    shown_size,
    upright_rgb,
)
from antcache.extract.videos.pyav import CODEC_THREADS, av
from antcache.extract.videos.source import VideoFacts

if TYPE_CHECKING:
    from av.container import InputContainer
    from av.packet import Packet
    from av.video.frame import VideoFrame
    from av.video.stream import VideoStream


@dataclass(frozen=True)
class FilmFile:
    """A video in one file."""

    path: Path

    def frames(self, *, max_gap_s: float, allow_partial: bool) -> FilmFrames:
        """Its frames."""
        return FilmFrames(self.path, max_gap_s=max_gap_s, allow_partial=allow_partial)

    def duration_s(self) -> float | None:
        """Its stated length."""
        return duration_s(self.path)


class FilmFrames:
    """Decodes one file, once for each iteration.

    Args:
        path: the file.
        max_gap_s: how far apart two frames may be, in seconds.
        allow_partial: accept a file that ends early, and stop where it ends.
    """

    def __init__(self, path: Path, *, max_gap_s: float, allow_partial: bool) -> None:
        self.path = path
        self.max_gap_s = max_gap_s
        self.allow_partial = allow_partial
        self.facts = VideoFacts()
        self._orientation: Orientation | None = None
        self._rotation = 0

    def __iter__(self) -> Generator[tuple[Fraction, VideoFrame], None, None]:
        """Intact frames with their times in seconds, ascending."""
        with open_container(self.path) as container:
            stream = film(container, self.path)
            stream.thread_type = "AUTO"
            stream.codec_context.thread_count = CODEC_THREADS.get()
            self.facts.pixel_aspect = pixel_aspect(stream)
            zero = _start(container)
            clock = _FrameTimes(container, self.path)
            file = _Packets(container, stream)
            last: Fraction | None = None
            damaged = False
            for packet in file:
                try:
                    decoded = packet.decode()
                except av.FFmpegError:
                    self.facts.skipped_packets += 1
                    damaged = True
                    continue
                for frame in decoded:
                    assert isinstance(frame, av.VideoFrame)
                    damaged = frame.is_corrupt or (damaged and not frame.key_frame)
                    time = clock(frame)
                    zero = time if zero is None else zero
                    self._check_gap(time, file.first if last is None else last, zero)
                    if damaged or (last is not None and time < last):
                        self.facts.skipped_frames += 1
                        continue
                    self.facts.num_frames += 1
                    last = time
                    yield time - zero, frame
            if last is not None:
                self._check_end(file, last)

    def picture(self, frame: VideoFrame) -> Picture:
        """A frame as it is shown."""
        size = shown_size(frame, self.facts.pixel_aspect, self.path)
        # Reading a frame's side data ties it into a reference cycle, so that its memory would wait
        # for the garbage collector: read it once, and again only if the rotation changes.
        if self._orientation is None or frame.rotation != self._rotation:
            self._orientation = orientation(frame, self.path)
            self._rotation = frame.rotation
        return upright_rgb(frame, size, self._orientation)

    def _check_gap(self, time: Fraction, last: Fraction | None, zero: Fraction) -> None:
        if last is None or abs(time - last) <= self.max_gap_s:
            return
        forwards = time > last
        raise UnreadableVideo(
            "no intact frame for too long" if forwards else "timestamps run backwards",
            where=self.path,
            expected=f"at most {self.max_gap_s:g} s between frames",
            found=f"{float(last - zero):.2f} s, then {float(time - zero):.2f} s, "
            f"{self.facts.skipped_packets} undecodable packets",
            hint="--max-gap, if that is how it was recorded; else re-encode it" if forwards else "",
        )

    def _check_end(self, file: _Packets, last: Fraction) -> None:
        """The file must reach the end it states, and its pictures the end of its packets."""
        missing = [Fraction(0)]
        if file.stated_end is not None and file.end is not None:
            missing.append(file.stated_end - file.end)
        if file.last is not None:
            missing.append(file.last - last)
        self.facts.ended_early = bool(file.error) or max(missing) > self.max_gap_s
        if self.facts.ended_early and not self.allow_partial:
            raise UnreadableVideo(
                f"it breaks off {float(max(missing)):.2f} s before its end",
                where=self.path,
                found=file.error,
                hint="copy it again, or keep what is there with --allow-partial",
            )


class _Packets:
    """Packets of the video stream, and what the file says and shows about where it ends.

    Attributes (times in the stream's own clock, seconds):
        first, last: time of the first packet, and the latest, of the video.
        stated_end: where the file says it ends; None if it does not.
        end: where that which `stated_end` speaks of was seen to end.
        error: why reading stopped, if not at the end of the file.
    """

    def __init__(self, container: InputContainer, stream: VideoStream) -> None:
        self._container = container
        self._stream = stream
        self.first: Fraction | None = None
        self.last: Fraction | None = None
        self.end: Fraction | None = None
        self.error = ""
        self.stated_end: Fraction | None = None
        start = _start(container) or Fraction(0)
        # The video's own length where it is stated, else that of the whole file (Matroska, which
        # counts it from 0): then any stream that reaches it will do, since sound may well outlast
        # the pictures.
        self._own = stream.duration is not None
        if container.format.name == "avi" and stream.average_rate:
            # FFmpeg estimates AVI lengths from the size of the file; the header has the frames.
            self._own = True
            self.stated_end = start + stream.frames / stream.average_rate
        elif stream.duration is not None and stream.time_base is not None:
            self.stated_end = ((stream.start_time or 0) + stream.duration) * stream.time_base
        elif container.duration is not None:
            self.stated_end = Fraction(container.duration, av.time_base)

    def __iter__(self) -> Iterator[Packet[Any]]:
        packets = self._container.demux()
        while True:
            try:
                packet = next(packets, None)
            except av.FFmpegError as error:
                self.error = f"{type(error).__name__}: {error.strerror}"
                return
            if packet is None:
                return
            ours = packet.stream.index == self._stream.index
            self._note(packet, ours)
            if ours:
                yield packet

    def _note(self, packet: Packet[Any], ours: bool) -> None:
        stamp = packet.dts if packet.pts is None else packet.pts
        if stamp is None or packet.time_base is None or packet.is_discard:
            return  # discarded: cut away by an edit list, there for decoding only
        time = stamp * packet.time_base
        if ours:
            self.first = time if self.first is None else self.first
            self.last = time if self.last is None else max(self.last, time)
        if ours or not self._own:
            end = time + (packet.duration or 0) * packet.time_base
            self.end = end if self.end is None else max(self.end, end)


def _start(container: InputContainer) -> Fraction | None:
    """When the container starts: the earliest start of its streams of pictures and sound."""
    streams = (*container.streams.video, *container.streams.audio)
    starts = [
        s.start_time * s.time_base
        for s in streams
        if s.start_time is not None and s.time_base is not None
    ]
    return min(starts, default=None)


class _FrameTimes:
    """When frames are shown; they are asked about in the order in which the decoder gives them.

    An AVI states no times but the rate at which its packets follow one another. FFmpeg guesses the
    rest, which goes wrong where frames are stored in another order than they are shown in (B-frames
    of H.264, packed bitstreams). The decoder knows the order: there, a frame is dated by the packet
    at which it was given.
    """

    def __init__(self, container: InputContainer, path: Path) -> None:
        self._path = path
        self._guessed = container.format.name == "avi"
        self._shift: int | None = None
        self._last: int | None = None

    def __call__(self, frame: VideoFrame) -> Fraction:
        """Seconds, in the stream's own clock."""
        stamp = frame.dts if frame.pts is None else frame.pts
        if self._guessed:
            stamp = self._in_order(frame.dts, stamp)
        if stamp is None or frame.time_base is None:
            raise UnreadableVideo(
                "frames without timestamps", where=self._path, hint="remux it into an .mkv or .mp4"
            )
        return stamp * frame.time_base

    def _in_order(self, packet: int | None, guess: int | None) -> int | None:
        """The stamp of a frame that was given at `packet`; the first keeps its guess."""
        if packet is not None and guess is not None:
            self._shift = guess - packet if self._shift is None else self._shift
            self._last = packet + self._shift
        else:  # given at the end of the file, where no packet is left: one step of the AVI each
            self._last = guess if self._last is None else self._last + 1
        return self._last
