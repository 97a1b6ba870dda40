"""Archives that unpack to a thousand times their size, made without packing all that.

Promise: a piece of zeros is packed once and repeated; any zlib unpacks it, and checksums are right.
"""

from __future__ import annotations

import functools
import struct
import zlib
from collections.abc import Callable, Mapping
from pathlib import Path

PIECE = bytes(1 << 20)
RAW = -15
"""What zlib calls a stream without a header and a checksum."""


@functools.cache
def _piece() -> bytes:
    packer = zlib.compressobj(9, zlib.DEFLATED, RAW)
    return packer.compress(PIECE) + packer.flush(zlib.Z_FULL_FLUSH)


def _packed(head: bytes, zeros: int) -> bytes:
    """`head` and so many zeros, as a raw stream."""
    packer = zlib.compressobj(9, zlib.DEFLATED, RAW)
    whole, rest = divmod(zeros, len(PIECE))
    begin = packer.compress(head) + packer.flush(zlib.Z_FULL_FLUSH)
    return begin + whole * _piece() + packer.compress(bytes(rest)) + packer.flush()


def _checksum(function: Callable[[bytes, int], int], head: bytes, zeros: int, start: int) -> int:
    found = function(head, start)
    whole, rest = divmod(zeros, len(PIECE))
    for _ in range(whole):
        found = function(PIECE, found)
    return function(bytes(rest), found)


def zlib_stream(head: bytes, zeros: int) -> bytes:
    """`head` and so many zeros, as `zlib.compress` would pack them."""
    found = _checksum(zlib.adler32, head, zeros, 1)
    return b"\x78\xda" + _packed(head, zeros) + struct.pack(">I", found)


def write_zip(path: Path, members: Mapping[str, tuple[bytes, int]]) -> None:
    """A zip file; of each member, what it begins with and how many zeros follow."""
    entries = directory = b""
    for text, (head, zeros) in members.items():
        name, data = text.encode(), _packed(head, zeros)
        sizes = (_checksum(zlib.crc32, head, zeros, 0), len(data), len(head) + zeros)
        about = struct.pack("<5H3I2H", 20, 0, 8, 0, 33, *sizes, len(name), 0)
        where = struct.pack("<3H2I", 0, 0, 0, 0, len(entries))
        directory += b"PK\1\2" + struct.pack("<H", 20) + about + where + name
        entries += b"PK\3\4" + about + name + data
    counts = (0, 0, len(members), len(members))
    end = struct.pack("<4H2IH", *counts, len(directory), len(entries), 0)
    path.write_bytes(entries + directory + b"PK\5\6" + end)
