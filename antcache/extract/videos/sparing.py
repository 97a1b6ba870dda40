"""Decodes of a film what is needed, and nothing else where the codec allows it.

Promise: the pictures are those of decoding everything, to the bit. Packets that no other refers to
are left out where nobody needs their frame, and so is the rest of what lies between two entries
behind the last frame that is needed there. Every frame that is decoded must come out at the time
that its packet states, and in order; where one does not, or a packet can't be decoded, the film is
`Unclear` and has to be decoded whole.
"""

from __future__ import annotations

from bisect import insort
from collections.abc import Generator, Iterator
from typing import TYPE_CHECKING, Any

from antcache.extract.videos.ahead import Coming, IsNeeded, Lookahead
from antcache.extract.videos.bitstream import Entry, Reader, Unclear
from antcache.extract.videos.pyav import av

if TYPE_CHECKING:
    from av.packet import Packet
    from av.video.frame import VideoFrame
    from av.video.stream import VideoStream

MAX_HELD = 64 << 20
"""Bytes of packets that wait for one that is needed; with more, they are decoded."""


class SparingDecoder:
    """Iterates over `(time, frame)` of one stream, ascending; the frame is None if it isn't needed.

    Args:
        stream: to decode.
        packets: of the stream, the last with no data.
        says: what reads them.
        is_needed: see `Lookahead`.

    Raises:
        Unclear: possibly after some frames, which are right.
    """

    def __init__(
        self,
        stream: VideoStream,
        packets: Iterator[Packet[Any]],
        says: Reader,
        is_needed: IsNeeded,
    ) -> None:
        self._stream = stream
        self._ahead = Lookahead(packets, says, is_needed)
        self._held: list[Coming] = []  # since the last entry, not yet needed; none is disposable
        self._held_bytes = 0
        self._missing = False  # whether packets before the next one were left out that count
        self._due: list[int] = []  # times of packets that were given, ascending
        self._expected: list[int] = []  # those of them that the decoder has, ascending
        self._known: dict[int, VideoFrame | None] = {}  # what is known of those that are due

    def __iter__(self) -> Generator[tuple[int, VideoFrame | None], None, None]:
        for coming in self._ahead:
            if coming.stamp is not None:
                insort(self._due, coming.stamp)
            self._place(coming)
            yield from self._ready(self._ahead.floor)
        self._drop_held()
        self._decode(None)
        if self._expected:
            raise Unclear("a frame that does not come")
        yield from self._ready(None)

    def _place(self, coming: Coming) -> None:
        """Decode a packet, leave it out, or keep it until that is known."""
        if coming.role.entry is not Entry.NO:
            self._drop_held()
        if coming.role.disposable and not coming.needed:
            self._leave_out(coming)
            return
        self._held.append(coming)
        self._held_bytes += coming.packet.size
        if coming.needed or self._held_bytes > MAX_HELD:
            for each in self._take_held():
                self._send(each)

    def _take_held(self) -> list[Coming]:
        held, self._held, self._held_bytes = self._held, [], 0
        return held

    def _drop_held(self) -> None:
        self._missing = self._missing or bool(self._held)
        for each in self._take_held():
            self._leave_out(each)

    def _leave_out(self, coming: Coming) -> None:
        if coming.stamp is not None:
            self._known[coming.stamp] = None

    def _send(self, coming: Coming) -> None:
        if self._missing and coming.role.entry is Entry.OPEN:
            self._decode(None)  # what it still has
            self._stream.codec_context.flush_buffers()
        self._missing = False
        if coming.stamp is not None:
            insort(self._expected, coming.stamp)
        self._decode(coming.packet)

    def _decode(self, packet: Packet[Any] | None) -> None:
        try:
            frames = self._stream.decode(packet)
        except av.FFmpegError as error:
            raise Unclear("a packet that can't be decoded") from error
        for frame in frames:
            if frame.is_corrupt or self._expected[:1] != [frame.pts]:
                raise Unclear("a frame that does not come in its turn")
            self._known[self._expected.pop(0)] = frame

    def _ready(self, floor: int | None) -> Iterator[tuple[int, VideoFrame | None]]:
        """What is known of all frames before those to come."""
        while self._due and self._due[0] in self._known:
            if floor is not None and self._due[0] > floor:
                return
            stamp = self._due.pop(0)
            yield stamp, self._known.pop(stamp)
