"""Videos that name other files, wait for something, or state more than they hold.

Promise: see `cases.py`. What a playlist or a track would show is `victim/secret.*`: grey pictures.
"""

from __future__ import annotations

import functools
import os
import shutil
import struct
import tempfile
from collections.abc import Callable
from pathlib import Path

import av
import numpy as np
from cases import InputCase
from specimens import EXTRACT, copy_kitchen, write_video

GREY = 200
SECRET = "the secret of the victim"
"""Text that no output may hold."""

HLS = "#EXTM3U\n#EXT-X-TARGETDURATION:9\n#EXTINF:2,\nvictim/secret.ts\n#EXT-X-ENDLIST\n"
CONCAT = "ffconcat version 1.0\nfile 'victim/secret.mp4'\n"
DASH = (
    '<?xml version="1.0"?><MPD xmlns="urn:mpeg:dash:schema:mpd:2011" type="static" '
    'profiles="urn:mpeg:dash:profile:isoff-main:2011" mediaPresentationDuration="PT2S"><Period>'
    '<AdaptationSet mimeType="video/mp4"><Representation id="1" bandwidth="1"><BaseURL>victim/'
    "secret.mp4</BaseURL></Representation></AdaptationSet></Period></MPD>"
)
SDP = (
    "v=0\no=- 0 0 IN IP4 127.0.0.1\ns=x\nc=IN IP4 127.0.0.1\nt=0 0\nm=video 5004 RTP/AVP 96\n"
    "a=rtpmap:96 H264/90000\n"
)
VOBSUB = "# VobSub index file, v7 (do not modify this line!)\nid: en, index: 0\n"


@functools.cache
def _victim() -> tempfile.TemporaryDirectory[str]:
    """What `plant_victim` copies: encoding it anew for each case would take most of its time."""
    folder = tempfile.TemporaryDirectory(prefix="victim-")
    victim = Path(folder.name) / "victim"
    victim.mkdir()
    (victim / "secret.txt").write_text(f"{SECRET}\n")
    for form in ("mp4", "ts"):
        write_video(victim / f"secret.{form}", form, grey=GREY)
    return folder


def plant_victim(folder: Path) -> Path:
    """Files of somebody else, beside what is given."""
    return Path(shutil.copytree(Path(_victim().name) / "victim", folder / "victim"))


def video(write: Callable[[Path], str]) -> Callable[[Path], list[list[str]]]:
    """A case of one video: `write` puts it beside the kitchen's, and says what it is called."""

    def make(folder: Path) -> list[list[str]]:
        copy_kitchen(folder)
        plant_victim(folder)
        name = write(folder)
        return [
            ["extract", name, "new.zarr", *EXTRACT],
            ["extract", name, "new.zarr", *EXTRACT, "--dry-run"],
        ]

    return make


def text(name: str, content: str) -> Callable[[Path], str]:
    """A video that is a text."""

    def write(folder: Path) -> str:
        (folder / name).write_text(content)
        return name

    return write


def _numbered(folder: Path) -> str:
    """A name that FFmpeg takes for all pictures of its pattern."""
    with av.open(str(folder / "shot0.png"), "w", format="image2") as container:
        stream = container.add_stream("png", rate=25)
        stream.width, stream.height, stream.pix_fmt = 80, 48, "gray"
        grey = np.full((48, 80), GREY, np.uint8)
        container.mux(stream.encode(av.VideoFrame.from_ndarray(grey, format="gray")))
        container.mux(stream.encode())
    (folder / "shot0.png").rename(folder / "victim/shot0.png")
    (folder / "shot0.png").symlink_to("victim/shot0.png")
    (folder / "shot%d.png").write_bytes(b"x")
    return "shot%d.png"


def _external(folder: Path) -> str:
    """A track that says that its frames lie in another file (a Mac alias)."""
    secret = folder / "victim/secret.mp4"
    path = str(secret).encode() + b"\0" * (len(str(secret)) % 2)
    alias = bytes(150) + struct.pack(">HH", 2, len(path)) + path + struct.pack(">H", 0xFFFF)
    entry = struct.pack(">I4sI", len(alias) + 12, b"alis", 0) + alias
    data = secret.read_bytes()
    start = data.index(b"dref") - 4
    old = int.from_bytes(data[start : start + 4])
    dref = struct.pack(">I4sII", len(entry) + 16, b"dref", 0, 1) + entry
    moov = data.index(b"moov") - 4
    data = data[:start] + dref + data[start + old :]
    for box in (b"dinf", b"minf", b"mdia", b"trak", b"moov"):
        at = data.rindex(box, 0, start) - 4
        length = int.from_bytes(data[at : at + 4]) + len(dref) - old
        data = data[:at] + struct.pack(">I", length) + data[at + 4 :]
    (folder / "v.mov").write_bytes(data[moov:])
    return "v.mov"


def _pipe(folder: Path) -> str:
    os.mkfifo(folder / "v.mp4")
    return "v.mp4"


def _loop(folder: Path) -> str:
    (folder / "v.mp4").symlink_to("w.mp4")
    (folder / "w.mp4").symlink_to("v.mp4")
    return "v.mp4"


def _device(folder: Path) -> str:
    (folder / "v.mp4").symlink_to("/dev/zero")
    return "v.mp4"


def _odd_folder(folder: Path) -> str:
    """Pipes, devices, loops and folders among the videos of a folder."""
    (folder / "odd").mkdir()
    os.mkfifo(folder / "odd/pipe.mp4")
    (folder / "odd/loop.mp4").symlink_to("loop.mp4")
    (folder / "odd/zero.mp4").symlink_to("/dev/zero")
    (folder / "odd/folder.mp4").mkdir()
    (folder / "odd/up").symlink_to("..")
    return "odd"


def _samples(folder: Path) -> str:
    """3 kB that state 60 million pictures: 4 GB of index."""
    data = (folder / "videos/v.mp4").read_bytes()
    count = 60_000_000
    for box, offset, values in (
        (b"stsz", 8, (1, count)),
        (b"stts", 12, (count,)),
        (b"stsc", 16, (count,)),
    ):
        at = data.index(box) + offset
        new = struct.pack(f">{len(values)}I", *values)
        data = data[:at] + new + data[at + len(new) :]
    (folder / "v.mp4").write_bytes(data)
    return "v.mp4"


def _fragment(folder: Path) -> str:
    """The same in a fragment."""
    run = struct.pack(">I4sIIQ", 24, b"trun", 0, 60_000_000, 0)
    traf = struct.pack(">I4s", 8 + len(run), b"traf") + run
    moof = struct.pack(">I4s", 8 + len(traf), b"moof") + traf
    (folder / "v.mp4").write_bytes((folder / "videos/v.mp4").read_bytes() + moof)
    return "v.mp4"


def _picture(width: int, height: int) -> Callable[[Path], str]:
    """A black picture of any size, in a few kB."""

    def write(folder: Path) -> str:
        with av.open(str(folder / "v.mov"), "w") as container:
            stream = container.add_stream("png", rate=25)
            stream.width, stream.height, stream.pix_fmt = width, height, "gray"
            black = np.zeros((height, width), np.uint8)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(black, format="gray")))
            container.mux(stream.encode())
        return "v.mov"

    return write


def _names(folder: Path) -> str:
    """Names that colour, forge and reorder what a terminal shows."""
    (folder / "names").mkdir()
    for name in (
        "\x1b[31mred\x1b[0m.mp4",
        "a\nError: forged.mp4",
        "[red].mp4",
        "\u202e4pm.mp4",
        "v.mp4",
    ):
        (folder / "names" / name).write_bytes((folder / "videos/v.mp4").read_bytes())
    return "names"


def cases() -> list[InputCase]:
    """The cases of videos."""
    writers: dict[str, Callable[[Path], str]] = {
        "ffconcat as mp4": text("v.mp4", CONCAT),
        "ffconcat with a path of the disk": text(
            "v.mp4", CONCAT.replace("victim/", "/etc/../etc/")
        ),
        "HLS playlist": text("v.m3u8", HLS),
        "HLS playlist as mp4": text("v.mp4", HLS),
        "DASH as mp4": text("v.mp4", DASH),
        "SDP as mp4": text("v.mp4", SDP),
        "VobSub index": text("v.idx", VOBSUB),
        "numbered pictures": _numbered,
        "track in another file": _external,
        "named pipe as video": _pipe,
        "loop of links as video": _loop,
        "endless device as video": _device,
        "folder of odd files": _odd_folder,
        "60 million samples": _samples,
        "60 million samples in a fragment": _fragment,
        "picture of 16,000 x 16,000": _picture(16_000, 16_000),
        "picture of 16 x 60,000": _picture(60_000, 16),
        "names of videos that are no text": _names,
    }
    return [InputCase(name=f"video: {name}", make=video(write)) for name, write in writers.items()]
