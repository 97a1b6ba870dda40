"""A film in an AVI as DivX packs it: B-frames beside the frame that they are predicted from.

Promise: the frames are those of `odd_films.py`; a frame of its own that says nothing keeps the
place of each that came before its turn.
"""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path

import av
from odd_films import write

MARK = b"\0\0\1\xb2DivX503b1393p\0"
"""By which decoders know a packed bitstream."""
NOT_CODED = bytes.fromhex("000001b6504f")
VOP = b"\0\0\1\xb6"


def pack(path: Path, times: Sequence[Fraction]) -> Path:
    """A packed AVI of pictures 0, 1, ... at `times`, which lie 1/25 s apart."""
    plain = write(
        path.with_name("plain.avi"), times, codec="mpeg4", b_frames=1, tick=Fraction(1, 25)
    )
    with av.open(str(plain)) as given, av.open(str(path), "w") as container:
        stream = given.streams.video[0]
        copy = container.add_stream_from_template(stream)
        copy.codec_context.extradata = (stream.codec_context.extradata or b"") + MARK
        frames = [bytes(packet) for packet in given.demux(stream) if packet.size]
        for number, data in enumerate(_chunks(frames)):
            packet = av.Packet(data)
            packet.stream = copy
            packet.time_base = stream.time_base
            packet.pts = packet.dts = number
            packet.is_keyframe = number == 0
            container.mux(packet)
    plain.unlink()
    return path


def _chunks(frames: Sequence[bytes]) -> list[bytes]:
    """Frames in the order of the file, each B-frame moved into the chunk before its own."""
    chunks: list[bytes] = []
    for data in frames:
        at = data.index(VOP)
        kind = "IPB"[data[at + 4] >> 6]
        if kind == "B":
            chunks[-1] += data
            chunks.append(NOT_CODED)
        else:
            chunks.append(data[:at] + MARK + data[at:] if kind == "I" else data)
    return chunks
