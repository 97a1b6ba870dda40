"""Videos that name other files, wait for something, or state more than they hold."""

from __future__ import annotations

import ast
import os
import socket
import stat
import struct
import zlib
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest

from antcache.errors import UnreadableVideo
from antcache.extract.videos import boxes
from antcache.extract.videos.containers import MAX_PIXELS
from antcache.extract.videos.decode import VideoSampler
from antcache.extract.videos.film import duration_s

SECRET = 200
"""Grey of every frame that nobody may see."""


def pictures(path: Path) -> list[np.ndarray]:
    return [picture for _, picture in VideoSampler(path, rate=Fraction(4))]


@pytest.fixture(scope="module")
def victim(tmp_path_factory, video):
    """A folder of files that are not given to anybody."""
    folder = tmp_path_factory.mktemp("disk") / "victim"
    folder.mkdir()

    def grey(number, height, width):
        return np.full((height, width, 3), SECRET, np.uint8)

    for name in ("secret.mp4", "secret.ts", "secret.mkv"):
        video.write(folder / name, video.steady(50), picture=grey)
    with av.open(str(folder / "secret.png"), "w", format="image2") as container:
        stream = container.add_stream("png", rate=25)
        stream.width, stream.height, stream.pix_fmt = 80, 48, "rgb24"
        container.mux(stream.encode(av.VideoFrame.from_ndarray(grey(0, 48, 80), format="rgb24")))
        container.mux(stream.encode())
    return folder


def external_track(secret: Path) -> bytes:
    """`secret` without its frames, whose track says that they lie in `secret` (a Mac alias)."""
    path = str(secret).encode()
    path += b"\0" * (len(path) % 2)
    alias = struct.pack(">10xB27s12xB63s16xHH16x", 0, b"", 0, b"", 0, 0)
    alias += struct.pack(">HH", 2, len(path)) + path + struct.pack(">H", 0xFFFF)
    entry = b"alis" + bytes(4) + alias + bytes(max(0, 160 - len(alias)))
    entry = struct.pack(">I", len(entry) + 4) + entry
    dref = b"dref" + struct.pack(">II", 0, 1) + entry
    data = secret.read_bytes()
    start = data.index(b"dref") - 4
    old = int.from_bytes(data[start : start + 4])
    grown = data[:start] + struct.pack(">I", len(dref) + 4) + dref + data[start + old :]
    for box in (b"dinf", b"minf", b"mdia", b"trak", b"moov"):
        at = grown.rindex(box, 0, start) - 4
        length = int.from_bytes(grown[at : at + 4]) + len(dref) + 4 - old
        grown = grown[:at] + struct.pack(">I", length) + grown[at + 4 :]
    return grown.replace(data[: grown.index(b"moov") - 4], bytes(0))  # what its frames were


PLAYLISTS = {
    "concat": "ffconcat version 1.0\nfile '{near}/secret.mp4'\n",
    "hls": "#EXTM3U\n#EXT-X-TARGETDURATION:9\n#EXTINF:2,\n{near}/secret.ts\n#EXT-X-ENDLIST\n",
    "sdp": "v=0\no=- 0 0 IN IP4 127.0.0.1\ns=x\nc=IN IP4 127.0.0.1\nt=0 0\n"
    "m=video 5004 RTP/AVP 96\na=rtpmap:96 H264/90000\n",
    "dash": '<?xml version="1.0"?><MPD xmlns="urn:mpeg:dash:schema:mpd:2011" type="static" '
    'profiles="urn:mpeg:dash:profile:isoff-main:2011" mediaPresentationDuration="PT2S"><Period>'
    '<AdaptationSet mimeType="video/mp4"><Representation id="1" bandwidth="1"><BaseURL>{near}/'
    "secret.mp4</BaseURL></Representation></AdaptationSet></Period></MPD>",
}


@pytest.mark.parametrize("form", PLAYLISTS)
@pytest.mark.parametrize("ending", ["mp4", "m3u8", "mpd", "sdp", "ffconcat"])
def test_no_list_of_files_is_followed(tmp_path, victim, form, ending):
    (tmp_path / "near").symlink_to(victim)
    path = tmp_path / f"v.{ending}"
    path.write_text(PLAYLISTS[form].format(near="near"))
    with pytest.raises(UnreadableVideo, match=f"v.{ending}: not a video"):
        pictures(path)
    assert duration_s(path) is None


def test_a_playlist_would_be_followed(tmp_path, victim):
    """What is refused above is no straw man: without our settings FFmpeg shows the secret."""
    (tmp_path / "near").symlink_to(victim)
    path = tmp_path / "v.mp4"
    path.write_text(PLAYLISTS["concat"].format(near="near"))
    with av.open(str(path)) as container:
        frame = next(container.decode(video=0))
    assert abs(float(frame.to_ndarray(format="rgb24").mean()) - SECRET) < 5


@pytest.mark.parametrize("name", ["secret%d.png", "secret*.png", "secret.png"])
def test_no_sequence_of_pictures_is_followed(tmp_path, victim, name):
    """A name may be a pattern to FFmpeg, and a lone picture has no time of its own."""
    (tmp_path / "secret0.png").symlink_to(victim / "secret.png")
    (tmp_path / "secret.png").symlink_to(victim / "secret.png")
    if name not in ("secret0.png", "secret.png"):
        (tmp_path / name).write_bytes(b"x")
    with pytest.raises(UnreadableVideo, match="not a video"):
        pictures(tmp_path / name)


@pytest.mark.parametrize("name", ["concat:secret.ts", "subfile,,start,0,end,0,,:secret.ts"])
def test_no_name_is_taken_for_a_protocol(tmp_path, victim, name, monkeypatch):
    monkeypatch.chdir(victim)
    with pytest.raises(UnreadableVideo, match="not a file"):
        pictures(Path(name))


def test_tracks_in_other_files_are_not_read(tmp_path, victim):
    path = tmp_path / "v.mov"
    path.write_bytes(external_track(victim / "secret.mp4"))
    follow = {"enable_drefs": "1", "use_absolute_path": "1"}
    with av.open(str(path), options=follow) as container:  # the case is a case
        frame = next(container.decode(video=0))
    assert abs(float(frame.to_ndarray(format="rgb24").mean()) - SECRET) < 5
    with pytest.raises(UnreadableVideo, match=r"v\.mov"):
        pictures(path)


def test_raw_streams_have_no_times(tmp_path, video):
    """Nothing says when a picture of a raw stream was seen: it is not dated by a guess."""
    path = video.write(tmp_path / "v.h264", video.steady(50))
    with pytest.raises(UnreadableVideo, match=r"not a video in one file.*a raw stream"):
        pictures(path)


@pytest.mark.parametrize("kind", ["pipe", "socket", "device", "loop", "folder"])
def test_what_is_no_file_is_not_waited_for(tmp_path, kind):
    path = tmp_path / "v.mp4"
    if kind == "pipe":
        os.mkfifo(path)
    elif kind == "socket":
        with socket.socket(socket.AF_UNIX) as server:
            server.bind(str(path))
        assert stat.S_ISSOCK(path.stat().st_mode)
    elif kind == "device":
        path.symlink_to("/dev/zero")
    elif kind == "loop":
        path.symlink_to(tmp_path / "w.mp4")
        (tmp_path / "w.mp4").symlink_to(path)
    else:
        path.mkdir()
    with pytest.raises(UnreadableVideo, match=r"v\.mp4: not a file: found"):
        pictures(path)
    assert duration_s(path) is None


def many_samples(data: bytes, count: int) -> bytes:
    """An MP4 that says of itself that it has `count` samples, one byte each."""
    for box, offset, values in ((b"stsz", 8, (1, count)), (b"stts", 12, (count,))):
        at = data.index(box) + offset
        new = b"".join(struct.pack(">I", value) for value in values)
        data = data[:at] + new + data[at + len(new) :]
    at = data.index(b"stsc") + 16
    return data[:at] + struct.pack(">I", count) + data[at + 4 :]


def test_samples_are_not_believed_without_bytes(tmp_path, victim):
    """60 million in 3 kB take 4 GB and 16 s to open."""
    data = (victim / "secret.mp4").read_bytes()
    path = tmp_path / "v.mp4"
    path.write_bytes(many_samples(data, 60_000_000))
    with pytest.raises(UnreadableVideo, match=r"more frames than it has room for.*found 60000000"):
        pictures(path)
    fragment = struct.pack(">I4sII", 8 + 16, b"trun", 0, 60_000_000) + bytes(8)
    traf = struct.pack(">I4s", 8 + len(fragment), b"traf") + fragment
    path.write_bytes(data + struct.pack(">I4s", 8 + len(traf), b"moof") + traf)
    with pytest.raises(UnreadableVideo, match="more frames than it has room for"):
        pictures(path)


@pytest.mark.parametrize("more", [0, 1])
def test_samples_may_be_as_many_as_the_bytes_allow(tmp_path, victim, more, monkeypatch):
    """The longer a file, the more it may state."""
    monkeypatch.setattr(boxes, "ALWAYS", 0)
    data = (victim / "secret.mp4").read_bytes()
    path = tmp_path / "v.mp4"
    path.write_bytes(many_samples(data, boxes.PER_BYTE * len(data) + more))
    if not more:
        boxes.check_samples(path)
        return
    with pytest.raises(UnreadableVideo, match="more frames than it has room for"):
        boxes.check_samples(path)


def test_compressed_headers_are_refused(tmp_path, victim):
    """How much one unpacks to can't be told before."""
    data = (victim / "secret.mp4").read_bytes()
    path = tmp_path / "v.mov"
    path.write_bytes(data.replace(b"mvhd", b"cmov", 1))
    with pytest.raises(UnreadableVideo, match=r"its header is compressed.*remux"):
        pictures(path)


def write_large(path: Path, width: int, height: int, *, pictures: int = 1) -> Path:
    """A black picture of any size takes a few kB."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream("png", rate=25)
        stream.width, stream.height, stream.pix_fmt = width, height, "gray"
        black = np.zeros((height, width), np.uint8)
        for _ in range(pictures):
            container.mux(stream.encode(av.VideoFrame.from_ndarray(black, format="gray")))
        container.mux(stream.encode())
    return path


def test_pictures_are_not_larger_than_8k(tmp_path, video):
    assert MAX_PIXELS >= 7680 * 4320
    path = write_large(tmp_path / "v.mov", 9000, 5000)
    assert path.stat().st_size < 1 << 20
    with pytest.raises(
        UnreadableVideo, match=r"nothing in it can be decoded.*at most 33554432 pix"
    ):
        pictures(path)
    small = write_large(tmp_path / "w.mov", 90, 50)
    assert pictures(small)[0].shape == (50, 90, 3)


def test_pictures_do_not_become_larger_than_8k(tmp_path):
    """The container and the first pictures say 90 x 50, the last one 9000 x 5000."""
    path = write_large(tmp_path / "v.mov", 90, 50, pictures=4)
    data = bytearray(path.read_bytes())
    at = data.rindex(b"IHDR") + 4
    data[at : at + 8] = struct.pack(">II", 9000, 5000)
    data[at + 13 : at + 17] = struct.pack(">I", zlib.crc32(data[at - 4 : at + 13]))
    path.write_bytes(data)
    sampler = VideoSampler(path, rate=Fraction(25))
    assert {picture.shape for _, picture in sampler} == {(50, 90, 3)}
    assert sampler.facts.skipped_packets == 1


def test_one_function_opens_videos(repo):
    """Whatever reads a file has the settings of `open_container`; `opening` reads cameras and
    streams with its own (tests/predict/live), and two write theirs."""
    opened = {
        (file.name, "w" in [a.value for a in node.args if isinstance(a, ast.Constant)])
        for folder in ("antcache", "cli")
        for file in (repo / folder).rglob("*.py")
        for node in ast.walk(ast.parse(file.read_text("utf-8")))
        if isinstance(node, ast.Call) and ast.unparse(node.func) == "av.open"
    }
    read, written = {("film.py", False), ("opening.py", False)}, {("render.py", True)}
    assert opened == read | written | {("film.py", True)}  # that of `predict`
