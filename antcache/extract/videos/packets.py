"""The packets of a film, and what its file says and shows about where it ends.

Promise: every packet of the file is looked at, in its order, whether or not it is decoded.
"""

from __future__ import annotations

from collections.abc import Iterator
from fractions import Fraction
from typing import TYPE_CHECKING, Any

from antcache.extract.videos.pyav import av

if TYPE_CHECKING:
    from av.container import InputContainer
    from av.packet import Packet
    from av.video.frame import VideoFrame
    from av.video.stream import VideoStream


class FilmPackets:
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
        start = start_of(container) or Fraction(0)
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


def start_of(container: InputContainer) -> Fraction | None:
    """When the container starts: the earliest start of its streams of pictures and sound."""
    streams = (*container.streams.video, *container.streams.audio)
    starts = [
        s.start_time * s.time_base
        for s in streams
        if s.start_time is not None and s.time_base is not None
    ]
    return min(starts, default=None)


def whole_frames(packet: Packet[VideoStream]) -> list[VideoFrame] | None:
    """What a packet decodes to; None if it can't be decoded, or is not whole.

    Of the part of a packet that a file or a stream ends with, decoders make a frame all the same:
    the rest of its picture is grey, green, or that of the frame before.
    """
    if packet.is_corrupt:
        return None
    try:
        return packet.decode()
    except av.FFmpegError:
        return None
