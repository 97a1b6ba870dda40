"""1080p60 H.264 videos of real clips, for `extraction.py`; an hour of one costs seconds.

A video shows a clip forth and back, enlarged, in `FRAMES` frames; longer ones repeat its packets.
"""

from __future__ import annotations

from fractions import Fraction
from itertools import chain, cycle, islice
from pathlib import Path

import av
from av.video.stream import VideoStream

RATE, FRAMES = 60, 240
CLIPS = ("torchcodec_nasa_13013.mp4", "mmaction2_demo.mp4", "moviepy_chaplin.mp4")


def write_piece(clip: Path, path: Path, size: tuple[int, int]) -> None:
    """`FRAMES` frames of a clip, each twice in a row, at `size` (width, height)."""
    with av.open(str(clip)) as source:
        frames = list(islice(source.decode(video=0), FRAMES // 4))
    shown = chain.from_iterable((each, each) for each in cycle([*frames, *frames[::-1]]))
    with av.open(str(path), "w") as file:
        stream = file.add_stream("libx264", rate=RATE)
        assert isinstance(stream, VideoStream)
        stream.width, stream.height, stream.pix_fmt = *size, "yuv420p"
        stream.options = {"preset": "veryfast", "crf": "23", "x264-params": "keyint=120"}
        for number, frame in enumerate(islice(shown, FRAMES)):
            resized = frame.reformat(*size, "yuv420p")
            resized.pts, resized.time_base = number, Fraction(1, RATE)
            file.mux(stream.encode(resized))
        file.mux(stream.encode())


def write_long(piece: Path, path: Path, seconds: float) -> None:
    """The packets of a piece over and over, until the video is so long."""
    with av.open(str(piece)) as source, av.open(str(path), "w") as file:
        stream = source.streams.video[0]
        copied = file.add_stream_from_template(stream)
        assert stream.time_base is not None
        length = round(FRAMES / RATE / stream.time_base)
        for turn in range(max(1, round(seconds * RATE / FRAMES))):
            source.seek(0)
            for packet in source.demux(stream):
                if packet.pts is None or packet.dts is None:
                    continue
                packet.pts, packet.dts = packet.pts + turn * length, packet.dts + turn * length
                packet.stream = copied
                file.mux(packet)


def write_videos(
    clips: Path, folder: Path, *, count: int, seconds: float, size: tuple[int, int]
) -> dict[str, Path]:
    """Videos by name, of one length."""
    folder.mkdir(parents=True)
    found = {}
    for number, clip in zip(range(count), cycle(CLIPS), strict=False):
        piece = folder.parent / f"{clip}.{size[0]}.mp4"
        if not piece.exists():
            write_piece(clips / clip, piece, size)
        found[f"v{number}"] = folder / f"v{number}.mp4"
        write_long(piece, found[f"v{number}"], seconds)
    return found
