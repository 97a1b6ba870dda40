"""What a packet says of itself before it is decoded: what may refer to it, and what it refers to.

Promise: only what the codec's own syntax says is believed, never a flag of the container. What is
not understood to the end is `Unclear`, and then everything is decoded.

- H.264 (ISO/IEC 14496-10, 7.4.1): nothing refers to pictures with nal_ref_idc 0; nothing after an
  IDR picture refers to anything before it. Streams that may have fields are `Unclear`.
- HEVC (ISO/IEC 23008-2, 7.4.2.2): nothing refers to sub-layer non-reference pictures of the highest
  sub-layer. Of what follows a CRA picture, only its RASL pictures refer to anything before it.
- VP9: a key frame resets all (6.1.2). Other frames are all needed: even those that no frame refers
  to move the probabilities on, and the motion vectors that are predicted from.
- AV1: a key frame that is shown, behind a sequence header, resets all (7.20, 7.21).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from enum import Enum


class Unclear(Exception):
    """A stream that can't be decoded in part, for all that is known here."""


class Entry(Enum):
    """Whether decoding may begin at a packet."""

    NO = 0
    CLOSED = 1
    """It resets the decoder."""
    OPEN = 2
    """A decoder that begins here leaves out what refers to packets before it (`leading`)."""


@dataclass(frozen=True)
class PacketRole:
    """What a packet says of itself.

    Attributes:
        entry: whether decoding may begin here.
        disposable: no other packet refers to it.
        leading: it refers to what lies before the last entry, and only others of its kind to it.
    """

    entry: Entry = Entry.NO
    disposable: bool = False
    leading: bool = False


Reader = Callable[[memoryview], PacketRole]
"""Reads the packets of one stream, in their order; raises `Unclear`."""


def reader(decoder: str, extradata: bytes) -> Reader:
    """What reads the packets of a decoder, with its setup as MP4 and Matroska keep it.

    Raises:
        Unclear: they aren't read.
    """
    if decoder == "h264":
        return _H264(extradata)
    if decoder == "hevc":
        return _Hevc(extradata)
    if decoder == "vp9":
        return _vp9
    if decoder in ("av1", "libdav1d", "libaom-av1"):
        return _av1
    raise Unclear(decoder)


class _H264:
    def __init__(self, extradata: bytes) -> None:
        if len(extradata) < 7 or extradata[0] != 1:
            raise Unclear("no avcC")
        self._length = (extradata[4] & 3) + 1
        self._setup = _Setup()
        sequences, at = _sized(extradata, 6, extradata[5] & 31)
        pictures, _ = _sized(extradata, at + 1, int.from_bytes(extradata[at : at + 1]))
        for unit in (*sequences, *pictures):
            self._setup.add(unit)
        for unit in sequences:
            _check_frames_only(unit)

    def __call__(self, data: memoryview) -> PacketRole:
        kinds: set[int] = set()
        disposable = True
        for unit in _units(data, self._length):
            kind = unit[0] & 31
            if kind in (1, 5):
                kinds.add(kind)
                disposable &= unit[0] & 0x60 == 0
            elif kind in (7, 8):
                self._setup.check(bytes(unit))
            elif kind not in (6, 9, 12):  # messages, a delimiter, filling
                raise Unclear("parts of slices, further layers or views, an end")
        if len(kinds) != 1:
            raise Unclear("not one picture")
        return PacketRole(Entry.CLOSED) if kinds == {5} else PacketRole(disposable=disposable)


class _Hevc:
    def __init__(self, extradata: bytes) -> None:
        if len(extradata) < 23 or extradata[0] != 1:
            raise Unclear("no hvcC")
        self._length = (extradata[21] & 3) + 1
        self._setup = _Setup()
        at = 23
        for _ in range(extradata[22]):
            units, at = _sized(extradata, at + 3, int.from_bytes(extradata[at + 1 : at + 3]))
            for unit in units:
                self._setup.add(unit)
        # sps_max_sub_layers_minus1 (7.3.2.2.1)
        highest = {unit[2] >> 1 & 7 for unit in self._setup.units if unit[0] >> 1 == 33}
        if len(highest) != 1:
            raise Unclear("sub-layers")
        (self._highest,) = highest

    def __call__(self, data: memoryview) -> PacketRole:
        pictures: set[tuple[int, int]] = set()
        for unit in _units(data, self._length):
            if len(unit) < 3 or unit[0] & 1 or unit[1] >> 3:
                raise Unclear("further layers")
            kind = unit[0] >> 1
            if kind < 32:
                pictures.add((kind, (unit[1] & 7) - 1))
            elif kind < 35:
                self._setup.check(bytes(unit))
            elif kind not in (35, 38, 39, 40):  # a delimiter, filling, messages
                raise Unclear("an end")
        if len(pictures) != 1:
            raise Unclear("not one picture")
        ((kind, layer),) = pictures
        return PacketRole(
            Entry.CLOSED if kind in (19, 20) else Entry.OPEN if kind == 21 else Entry.NO,
            disposable=kind <= 14 and kind % 2 == 0 and layer == self._highest,
            leading=kind in (8, 9),
        )


class _Setup:
    """Parameter sets, which must not change on the way: packets that bring them may be left out."""

    def __init__(self) -> None:
        self.units: set[bytes] = set()

    def add(self, unit: bytes) -> None:
        if len(unit) < 4:
            raise Unclear("a parameter set")
        self.units.add(unit)

    def check(self, unit: bytes) -> None:
        """Raise `Unclear` if it is another one."""
        if unit not in self.units:
            raise Unclear("parameter sets on the way")


def _sized(data: bytes, at: int, count: int) -> tuple[list[bytes], int]:
    """So many units of a setup, each behind its size, and where they end."""
    units = []
    for _ in range(count):
        begin = at + 2
        at = begin + int.from_bytes(data[at:begin])
        units.append(data[begin:at])
    if at > len(data):
        raise Unclear("too short")
    return units, at


def _units(data: memoryview, length: int) -> Iterator[memoryview]:
    """The units of a packet, each behind its size."""
    at = 0
    while at < len(data):
        begin = at + length
        at = begin + int.from_bytes(data[at:begin])
        if begin >= at or at > len(data):
            raise Unclear("sizes of units")
        yield data[begin:at]


def _vp9(data: memoryview) -> PacketRole:
    if not len(data) or data[0] >> 6 != 2:
        raise Unclear("frame marker")
    below = 1 if data[0] & 0x30 == 0x30 else 2  # bits after those of the kind; profile 3 has one
    exists, inter = data[0] >> below + 1 & 1, data[0] >> below & 1
    return PacketRole(Entry.NO if exists or inter else Entry.CLOSED)


def _av1(data: memoryview) -> PacketRole:
    sequence = False
    at = 0
    while at < len(data):
        head = data[at]
        at += 2 if head & 4 else 1
        size = len(data) - at
        if head & 2:
            size, at = _leb128(data, at)
        if size < 0 or at + size > len(data):
            raise Unclear("sizes of units")
        kind, body = head >> 3 & 15, data[at : at + size]
        if kind == 1:
            if not size or body[0] & 8:  # no more than one picture
                raise Unclear("a still picture")
            sequence = True
        elif kind in (3, 6):
            key = bool(size) and body[0] >> 4 == 0b0001  # not one again, a key frame, shown
            return PacketRole(Entry.CLOSED if key and sequence else Entry.NO)
        at += size
    raise Unclear("no picture")


def _leb128(data: memoryview, at: int) -> tuple[int, int]:
    """A number, and where it ends."""
    number = 0
    for place, byte in enumerate(data[at : at + 8]):
        number |= (byte & 127) << 7 * place
        if byte < 128:
            return number, at + place + 1
    raise Unclear("a number")


def _check_frames_only(unit: bytes) -> None:
    """Raise `Unclear` if a sequence parameter set of H.264 allows fields (7.3.2.1.1)."""
    bits = _Bits(unit.replace(b"\0\0\3", b"\0\0"))
    bits.skip(8)
    profile = bits.take(8)
    bits.skip(16)
    bits.number()  # its id
    if profile not in (66, 77, 88):
        if profile not in (100, 110, 122, 244, 44):
            raise Unclear("profile")
        if bits.number() == 3:  # chroma
            bits.skip(1)
        bits.number()  # bits of luma and of chroma
        bits.number()
        bits.skip(1)
        if bits.take(1):
            raise Unclear("scaling lists")
    bits.number()  # frame_num
    order = bits.number()
    if order == 0:
        bits.number()
    elif order == 1:
        raise Unclear("order of pictures")
    bits.number()  # reference frames
    bits.skip(1)
    bits.number()  # width and height
    bits.number()
    if not bits.take(1):
        raise Unclear("fields")


class _Bits:
    """Reads bits of a unit, the first one first."""

    def __init__(self, data: bytes) -> None:
        self._left = 8 * len(data)
        self._value = int.from_bytes(data)

    def take(self, count: int) -> int:
        """The next bits, as a number."""
        self._left -= count
        if self._left < 0:
            raise Unclear("too short")
        return self._value >> self._left & (1 << count) - 1

    def skip(self, count: int) -> None:
        """Pass over bits."""
        self.take(count)

    def number(self) -> int:
        """An unsigned Exp-Golomb code (9.1)."""
        zeros = 0
        while not self.take(1):
            zeros += 1
        return (1 << zeros) - 1 + self.take(zeros)
