"""The frames of one video file, with their exact times.

Promise: times are the container's own timestamps (as fractions). Time 0 is the container's start,
as in players and in FFmpeg, so that annotated times apply; the first frame may come later.

Nothing is made up. After a packet that can't be decoded, or that is not whole, frames are passed
over until the next key frame, because those between are predicted from what is missing. Frames
further apart than `max_gap_s`, and a file that ends before the end that it states, are
`UnreadableVideo`. Not covered: damage that the decoder itself does not notice.

Where only some frames are needed, the others are not decoded where that changes no picture
(`sparing`): in an MP4 or Matroska file whose codec says which packets may be left out. As soon as
anything is not as it should be, the file is decoded whole, from its beginning. Damage in packets
that are left out is not noticed, and harms nothing.

How a file is opened, and which of its streams is decoded, is said in `film.py`.
"""

from __future__ import annotations

from collections.abc import Generator
from contextlib import closing
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING

from antcache.errors import UnreadableVideo
from antcache.extract.videos.bitstream import Reader, Unclear, reader
from antcache.extract.videos.film import duration_s, film, open_container, pixel_aspect
from antcache.extract.videos.nvdec import Decoder, accelerated, as_on_cpu
from antcache.extract.videos.packets import FilmPackets, start_of, whole_frames
from antcache.extract.videos.pictures import (
    Orientation,
    Picture,
    orientation,
    shown_size,
    upright_rgb,
)
from antcache.extract.videos.pyav import CODEC_THREADS, av
from antcache.extract.videos.source import Needed, VideoFacts
from antcache.extract.videos.sparing import SparingDecoder

if TYPE_CHECKING:
    from av.container import InputContainer
    from av.video.frame import VideoFrame
    from av.video.stream import VideoStream


@dataclass(frozen=True)
class FilmFile:
    """A video in one file.

    Attributes:
        path: the file.
        threads: of its decoder; 0: as many as `CODEC_THREADS` says.
        decoder: what decodes it; see `nvdec`.
    """

    path: Path
    threads: int = 0
    decoder: Decoder = "cpu"

    def frames(self, *, max_gap_s: float, allow_partial: bool) -> FilmFrames:
        """Its frames."""
        return FilmFrames(self, max_gap_s=max_gap_s, allow_partial=allow_partial)

    def duration_s(self) -> float | None:
        """Its stated length."""
        return duration_s(self.path)

    def files(self) -> tuple[Path, ...]:
        """See `OfFiles`."""
        return (self.path,)


class FilmFrames:
    """Decodes one file, once for each iteration.

    Args:
        file: where it lies, and what decodes it.
        max_gap_s: how far apart two frames may be, in seconds.
        allow_partial: accept a file that ends early, and stop where it ends.
    """

    def __init__(self, file: FilmFile, *, max_gap_s: float, allow_partial: bool) -> None:
        self.file = file
        self.path = file.path
        self.max_gap_s = max_gap_s
        self.allow_partial = allow_partial
        self.facts = VideoFacts(about={} if file.decoder == "cpu" else {"decoder": file.decoder})
        self._orientation: Orientation | None = None
        self._rotation = 0

    def __iter__(self) -> Generator[tuple[Fraction, VideoFrame], None, None]:
        """Intact frames with their times in seconds, ascending."""
        with self._open() as container:
            stream = self._film(container)
            zero = start_of(container)
            clock = _FrameTimes(container, self.path)
            file = FilmPackets(container, stream)
            last: Fraction | None = None
            damaged = False
            for packet in file:
                decoded = whole_frames(packet)
                if decoded is None:
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

    def only(self, needed: Needed) -> Generator[tuple[Fraction, VideoFrame | None], None, None]:
        """The same times; a frame that is not needed may be None."""
        given: Fraction | None = None
        try:
            with closing(self._sparing(needed)) as frames:
                for given, frame in frames:
                    yield given, frame
            return
        except Unclear:
            self.facts.num_frames = self.facts.unneeded_frames = 0
        with closing(iter(self)) as whole:
            for time, frame in whole:
                if given is None or time >= given:  # once more the one that may be seen for longer
                    yield time, frame

    def _sparing(self, needed: Needed) -> Generator[tuple[Fraction, VideoFrame | None], None, None]:
        """`only`, as long as nothing is `Unclear`."""
        with self._open() as container:
            stream = self._film(container)
            unit, says = _reader(container, stream)
            zero = start_of(container)
            file = FilmPackets(container, stream)

            def asked(first: int, since: int, until: int) -> bool:
                begin = first * unit if zero is None else zero
                return needed(first * unit - begin, since * unit - begin, until * unit - begin)

            last: Fraction | None = None
            for stamp, frame in SparingDecoder(stream, iter(file), says, asked):
                time = stamp * unit
                zero = time if zero is None else zero
                self._check_gap(time, file.first if last is None else last, zero)
                self.facts.num_frames += 1
                self.facts.unneeded_frames += frame is None
                last = time
                yield time - zero, frame
            if last is not None:
                self._check_end(file, last)

    def _open(self) -> InputContainer:
        return open_container(self.path, accelerated() if self.file.decoder == "nvdec" else None)

    def _film(self, container: InputContainer) -> VideoStream:
        stream = film(container, self.path)
        stream.thread_type = "AUTO"
        stream.codec_context.thread_count = self.file.threads or CODEC_THREADS.get()
        self.facts.pixel_aspect = pixel_aspect(stream)
        return stream

    def picture(self, frame: VideoFrame) -> Picture:
        """A frame as it is shown."""
        size = shown_size(frame, self.facts.pixel_aspect, self.path)
        # Reading a frame's side data ties it into a reference cycle, so that its memory would wait
        # for the garbage collector: read it once, and again only if the rotation changes.
        if self._orientation is None or frame.rotation != self._rotation:
            self._orientation = orientation(frame, self.path)
            self._rotation = frame.rotation
        return upright_rgb(as_on_cpu(frame), size, self._orientation)

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

    def _check_end(self, file: FilmPackets, last: Fraction) -> None:
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


def _reader(container: InputContainer, stream: VideoStream) -> tuple[Fraction, Reader]:
    """The unit of a stream's times, and what reads its packets.

    Raises:
        Unclear: they say too little, or their container states no times.
    """
    context = stream.codec_context
    if not stream.time_base or not {"mp4", "matroska"} & set(container.format.name.split(",")):
        raise Unclear("times")
    return Fraction(stream.time_base), reader(context.name, context.extradata or b"")


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
