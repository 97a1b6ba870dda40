"""Which frames of a film are needed, known from its packets before any of them is decoded.

Promise: a frame is seen from its own time until that of the next one, in the order in which they
are shown; packets are read ahead until that is certain, and no further. What does not follow the
rules of its codec is `Unclear`.

Certain: in no codec here do more than 16 pictures come before one in the file and after it on the
screen. So once 17 packets with later times have been read, none that is still to come is earlier
than any of these. What leads an entry of HEVC comes before all else that follows it (7.4.2.2), so
by then it has been read, too.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from antcache.extract.videos.bitstream import Entry, PacketRole, Reader, Unclear

if TYPE_CHECKING:
    from av.packet import Packet

REORDERED = 16
"""Pictures that may come before one in the file and after it on the screen, at most."""

MAX_WAITING = 16 * REORDERED
"""Packets that are read ahead, at most; more can be made of times that make no sense."""

IsNeeded = Callable[[int, int, int], bool]
"""Whether somebody looks at the film from a time until before another; the first argument is the
time of its first frame."""


@dataclass(frozen=True)
class Coming:
    """A packet of a film.

    Attributes:
        packet: as it was read.
        stamp: time of its frame; None if that is not shown.
        role: what it says of itself. An open entry is one only if nothing that leads it is needed,
            and what leads it is then disposable.
        needed: whether its frame is.
    """

    packet: Packet[Any]
    stamp: int | None
    role: PacketRole
    needed: bool


class Lookahead:
    """Packets in their order, each as soon as it is known whether its frame is needed.

    Args:
        packets: of one stream, the last with no data.
        says: what reads them.
        is_needed: asked of all frames but the first and the last, which are needed.
    """

    def __init__(self, packets: Iterator[Packet[Any]], says: Reader, is_needed: IsNeeded) -> None:
        self._packets = packets
        self._says = says
        self._is_needed = is_needed
        self._window: deque[tuple[Packet[Any], int | None, PacketRole]] = deque()
        self._stamps: list[int] = []  # of frames, ascending: those in the window and around it
        self._begun = False
        self._first: int | None = None
        self._leads = False  # whether what is leading now leads an entry
        self.floor: int | None = None
        """Earliest time of a frame whose packet is not yet given; None at the end."""

    def __iter__(self) -> Iterator[Coming]:
        for packet in self._packets:
            if not packet.size:
                break
            self._read(packet)
            while self._window and self._certain(self._window[0][1]):
                yield self._next()
        else:
            raise Unclear("it breaks off")
        while self._window:
            yield self._next()

    def _read(self, packet: Packet[Any]) -> None:
        if len(self._window) > MAX_WAITING:
            raise Unclear("a frame that is shown last")
        if packet.is_corrupt:
            raise Unclear("a packet that is not whole")
        role = self._says(memoryview(packet))
        if not self._begun and role.entry is Entry.NO:
            raise Unclear("it does not begin with an entry")
        self._begun = True
        if packet.is_discard:  # cut away by an edit list, there for decoding only
            self._window.append((packet, None, role))
            return
        stamp = packet.pts
        if stamp is None:
            raise Unclear("a frame without a time")
        place = bisect_left(self._stamps, stamp)
        if len(self._stamps) - place > REORDERED:
            raise Unclear("times that run backwards")
        if self._stamps[place : place + 1] == [stamp]:
            raise Unclear("two frames at one time")
        self._stamps.insert(place, stamp)
        self._window.append((packet, stamp, role))

    def _certain(self, stamp: int | None) -> bool:
        """Whether the frame after that is known."""
        return stamp is None or len(self._stamps) - bisect_right(self._stamps, stamp) > REORDERED

    def _next(self) -> Coming:
        packet, stamp, role = self._window.popleft()
        if stamp is not None and self._first is None:
            self._first = self._stamps[0]
        if role.entry is not Entry.NO:
            self._leads = role.entry is Entry.OPEN and not any(map(self._seen, self._led()))
            role = (
                role if role.entry is Entry.CLOSED or self._leads else replace(role, entry=Entry.NO)
            )
        needed = self._seen(stamp)
        if role.leading and self._leads:
            if needed:
                raise Unclear("leading pictures behind others")
            role = replace(role, disposable=True)
        waiting = [each for _, each, _ in self._window if each is not None]
        self.floor = min(waiting, default=None)
        if len(self._stamps) > 8 * REORDERED:  # all before these are done with
            earliest = min(waiting, default=self._stamps[-1])
            del self._stamps[: max(0, bisect_left(self._stamps, earliest) - 1)]
        return Coming(packet, stamp, role, needed)

    def _led(self) -> Iterator[int | None]:
        """Times of what leads the entry that was just taken."""
        for _, stamp, role in self._window:
            if role.entry is not Entry.NO:
                return
            if role.leading:
                yield stamp

    def _seen(self, stamp: int | None) -> bool:
        if stamp is None or self._first is None:
            return False
        after = bisect_right(self._stamps, stamp)
        if stamp == self._first or after == len(self._stamps):
            return True
        return self._is_needed(self._first, stamp, self._stamps[after])
