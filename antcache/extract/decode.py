"""Pictures of a video at regular times: the last frame at or before each, never a later one.

Promise: times are the container's own timestamps, compared exactly (as fractions). Time 0 is the
container's start, as in players and in FFmpeg, so that annotated times apply; the first frame may
come later (`start_s`). Frame rates may vary. Pictures are upright RGB. Only the pictures that are
asked for are converted, one at a time, so memory does not grow with the length of the video.

Nothing is made up. After a packet that can't be decoded, frames are passed over until the next key
frame, because those between are predicted from what is missing. Frames further apart than
`max_gap_s`, a file that ends before the end that it states, and a file without any decodable frame
are `UnreadableVideo`. Not covered: damage that the decoder itself does not notice.

Nothing but the file itself is read, whatever it says: playlists and lists of files are refused, and
so are references to other files. Every video is opened by `open_container`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Generator, Iterator
from contextlib import closing
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from antcache.errors import MissingExtra, UnreadableVideo
from antcache.extract.boxes import check_samples
from antcache.extract.containers import CONTAINERS, MAX_ASPECT, MAX_PIXELS, OPTIONS

try:
    import av
    from av.container import InputContainer
    from av.error import FFmpegError
    from av.packet import Packet
    from av.sidedata.sidedata import SideData
    from av.stream import Disposition
    from av.video.frame import VideoFrame
    from av.video.stream import VideoStream
except ImportError as error:
    raise MissingExtra("av", "extract") from error

CONVENTION = 1
"""Version of the rules in this file; part of every stream's fingerprint."""

Picture = NDArray[np.uint8]

# Titles that are no UTF-8 must not stop us. PyAV 19 replaces what it can't read; before, it must be
# told to, by an argument that 19 no longer takes.
_TITLES: dict[str, Any] = (
    {"metadata_errors": "replace"} if int(av.__version__.partition(".")[0]) < 19 else {}
)


def every_tick(tick: int) -> bool:
    """Ask for all pictures of the grid."""
    return True


class VideoSampler:
    """Iterates over `(tick, picture)` of one video, ticks ascending; picture (H, W, 3) uint8 RGB.

    Tick k is the time `start_s + k / rate`; the ticks end with the last frame's time. A picture
    that is shown at several ticks is the same array each time.

    Args:
        path: the video file.
        rate: ticks per second, exact.
        wanted: which ticks to produce.
        max_gap_s: how far apart two frames may be, in seconds.
        allow_partial: accept a file that ends early, and stop where it ends.

    Attributes:
        start_s: time of tick 0 in seconds, known from the first picture on.
        num_frames: frames decoded so far.
        skipped_packets: packets that could not be decoded so far.
        skipped_frames: frames passed over so far, after such packets or for running backwards.
        ended_early: whether the file turned out to be shorter than it states.
    """

    def __init__(
        self,
        path: Path,
        *,
        rate: Fraction,
        wanted: Callable[[int], bool] = every_tick,
        max_gap_s: float = 2.0,
        allow_partial: bool = False,
    ) -> None:
        self.path = path
        self.rate = rate
        self.wanted = wanted
        self.max_gap_s = max_gap_s
        self.allow_partial = allow_partial
        self.start_s = 0.0
        self.num_frames = self.skipped_packets = self.skipped_frames = 0
        self.ended_early = False
        self._orientation: Orientation | None = None
        self._rotation = 0

    def __iter__(self) -> Generator[tuple[int, Picture], None, None]:
        """Decode the video; raises `UnreadableVideo`, possibly after some pictures."""
        start = last = Fraction(0)
        tick = 0
        shown: VideoFrame | None = None
        with closing(self._frames()) as frames:
            for time, frame in frames:
                if shown is None:
                    start = time
                    self.start_s = float(start)
                else:  # `shown` is what is seen until the moment before `time`
                    stop = math.ceil((time - start) * self.rate)
                    yield from self._pictures(shown, tick, stop)
                    tick = max(tick, stop)
                shown, last = frame, time
        if shown is None:
            raise UnreadableVideo(
                "nothing in it can be decoded",
                where=self.path,
                found=f"{self.skipped_packets} undecodable packets",
                hint=f"pictures have at most {MAX_PIXELS} pixels",
            )
        yield from self._pictures(shown, tick, math.floor((last - start) * self.rate) + 1)

    def _pictures(self, frame: VideoFrame, first: int, stop: int) -> Iterator[tuple[int, Picture]]:
        picture = None
        for tick in range(first, stop):
            if self.wanted(tick):
                picture = self._picture(frame) if picture is None else picture
                yield tick, picture

    def _picture(self, frame: VideoFrame) -> Picture:
        short, long = sorted((frame.width, frame.height))
        if long > MAX_ASPECT * short:
            raise UnreadableVideo(
                "its pictures are strips",
                where=self.path,
                expected=f"at most {MAX_ASPECT} to 1",
                found=f"{frame.width} x {frame.height}",
            )
        # Reading a frame's side data ties it into a reference cycle, so that its memory would wait
        # for the garbage collector: read it once, and again only if the rotation changes.
        if self._orientation is None or frame.rotation != self._rotation:
            self._orientation = orientation(frame, self.path)
            self._rotation = frame.rotation
        return upright_rgb(frame, self._orientation)

    def _frames(self) -> Generator[tuple[Fraction, VideoFrame], None, None]:
        """Intact frames with their times, ascending."""
        with open_container(self.path) as container:
            stream = video_stream(container, self.path)
            stream.thread_type = "AUTO"
            zero = _start(container)
            file = _Packets(container, stream)
            last: Fraction | None = None
            damaged = False
            for packet in file:
                try:
                    decoded = packet.decode()
                except FFmpegError:
                    self.skipped_packets += 1
                    damaged = True
                    continue
                for frame in decoded:
                    assert isinstance(frame, VideoFrame)
                    damaged = frame.is_corrupt or (damaged and not frame.key_frame)
                    time = _time(frame, self.path)
                    zero = time if zero is None else zero
                    self._check_gap(time, file.first if last is None else last, zero)
                    if damaged or (last is not None and time < last):
                        self.skipped_frames += 1
                        continue
                    self.num_frames += 1
                    last = time
                    yield time - zero, frame
            if last is not None:
                self._check_end(file, last)

    def _check_gap(self, time: Fraction, last: Fraction | None, zero: Fraction) -> None:
        if last is None or abs(time - last) <= self.max_gap_s:
            return
        forwards = time > last
        raise UnreadableVideo(
            "no intact frame for too long" if forwards else "timestamps run backwards",
            where=self.path,
            expected=f"at most {self.max_gap_s:g} s between frames",
            found=f"{float(last - zero):.2f} s, then {float(time - zero):.2f} s, "
            f"{self.skipped_packets} undecodable packets",
            hint="--max-gap, if that is how it was recorded; else re-encode it" if forwards else "",
        )

    def _check_end(self, file: _Packets, last: Fraction) -> None:
        """The file must reach the end it states, and its pictures the end of its packets."""
        missing = [Fraction(0)]
        if file.stated_end is not None and file.end is not None:
            missing.append(file.stated_end - file.end)
        if file.last is not None:
            missing.append(file.last - last)
        self.ended_early = bool(file.error) or max(missing) > self.max_gap_s
        if self.ended_early and not self.allow_partial:
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
            except FFmpegError as error:
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


def open_container(path: Path) -> InputContainer:
    """Open a media file.

    Raises:
        UnreadableVideo: it is missing, a folder, empty, or not a media file.
    """
    if not path.is_file():  # a pipe or a device would be waited for
        found = "a folder" if path.is_dir() else "no regular file" if path.exists() else "nothing"
        raise UnreadableVideo("not a file", where=path, found=found)
    try:
        check_samples(path)
        # The absolute path, so that no name is taken for a protocol ("pipe:0.mp4").
        container: InputContainer = av.open(str(path.absolute()), options=OPTIONS, **_TITLES)
        return container
    except av.error.ArgumentError as error:  # how FFmpeg says that a form is not on the list
        raise UnreadableVideo(
            "not a video in one file",
            where=path,
            expected=" ".join(CONTAINERS.values()),
            found="a list of files, a raw stream, or a form that is not read",
        ) from error
    except UnreadableVideo:
        raise
    except (FFmpegError, OSError) as error:
        raise UnreadableVideo(
            "not a video that can be opened",
            where=path,
            found=f"{path.stat().st_size} bytes, {error.strerror or error}",
        ) from error


def video_stream(container: InputContainer, path: Path) -> VideoStream:
    """The stream with the pictures: the first that is not a cover picture.

    Raises:
        UnreadableVideo: there is none, or no decoder for it.
    """
    cover = Disposition.attached_pic
    streams = [s for s in container.streams.video if not s.disposition & cover]
    if not streams:
        kinds = ", ".join(sorted({s.type for s in container.streams})) or "nothing"
        raise UnreadableVideo("no video stream", where=path, found=f"only {kinds}")
    context = getattr(streams[0], "codec_context", None)
    if context is None:
        raise UnreadableVideo("no decoder for its video stream", where=path)
    context.options = {"max_pixels": str(MAX_PIXELS)}  # a stream's pictures may change their size
    return streams[0]


def duration_s(path: Path) -> float | None:
    """Stated length of a video in seconds; None if it states none or can't be opened."""
    try:
        with open_container(path) as container:
            video_stream(container, path)
            return None if container.duration is None else container.duration / av.time_base
    except UnreadableVideo:
        return None


def _start(container: InputContainer) -> Fraction | None:
    """When the container starts: the earliest start of its streams of pictures and sound."""
    streams = (*container.streams.video, *container.streams.audio)
    starts = [
        s.start_time * s.time_base
        for s in streams
        if s.start_time is not None and s.time_base is not None
    ]
    return min(starts, default=None)


def _time(frame: VideoFrame, path: Path) -> Fraction:
    stamp = frame.dts if frame.pts is None else frame.pts
    if stamp is None or frame.time_base is None:
        raise UnreadableVideo(
            "frames without timestamps", where=path, hint="remux it into an .mkv or .mp4"
        )
    return stamp * frame.time_base


@dataclass(frozen=True)
class Orientation:
    """How a picture is to be shown: transposed, then mirrored."""

    turned: bool
    mirror_x: bool
    mirror_y: bool


def orientation(frame: VideoFrame, path: Path) -> Orientation:
    """Orientation that the display matrix of a frame asks for.

    The matrix `(a, b, u, c, d, v, x, y, w)` shows the pixel (x, y) at (a x + c y, b x + d y); see
    FFmpeg, `libavutil/display.h`.
    """
    matrix = frame.side_data.get("DISPLAYMATRIX")
    if matrix is None:
        return Orientation(False, False, False)
    assert isinstance(matrix, SideData)
    a, b, _, c, d = (int(v) for v in np.frombuffer(bytes(matrix), dtype=np.int32)[:5])
    if b == c == 0 and a != 0 and d != 0:
        return Orientation(False, a < 0, d < 0)
    if a == d == 0 and b != 0 and c != 0:
        return Orientation(True, c < 0, b < 0)
    raise UnreadableVideo("turned by an angle that is no multiple of 90", where=path)


def upright_rgb(frame: VideoFrame, shown: Orientation) -> Picture:
    """Picture (H, W, 3) uint8 of a frame."""
    picture = frame.to_ndarray(format="rgb24")
    picture = picture.swapaxes(0, 1) if shown.turned else picture
    picture = picture[:: -1 if shown.mirror_y else 1, :: -1 if shown.mirror_x else 1]
    return np.ascontiguousarray(picture, dtype=np.uint8)
