"""What is left out of decoding changes nothing of what is seen."""

from __future__ import annotations

import dataclasses
import functools
import hashlib
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from antcache.errors import UnreadableVideo
from antcache.extract.videos import sparing
from antcache.extract.videos.ahead import MAX_WAITING, Lookahead
from antcache.extract.videos.bitstream import Entry, PacketRole, Unclear, reader
from antcache.extract.videos.decode import VideoReader, VideoSampler
from antcache.extract.videos.film_frames import FilmFile


class Whole:
    """Frames of a file, of which none is left out."""

    def __init__(self, frames):
        self.facts, self.picture, self._frames = frames.facts, frames.picture, frames

    def __iter__(self):
        return iter(self._frames)


class WholeFile(FilmFile):
    """A file that is decoded whole."""

    def frames(self, **options):
        return Whole(super().frames(**options))


def seen(source, *, rate=None, looks=(), **options):
    """Digests of the pictures, the facts and the error; and how many frames were left out."""
    found, error = [], ""
    try:
        if rate is None:
            reading = VideoReader(source, **options)
            for since, until, picture in reading.shown(
                lambda since, until: any(since <= look < until for look in looks)
            ):
                found.append((since, until, hashlib.md5(picture.tobytes()).digest()))
        else:
            reading = VideoSampler(source, rate=Fraction(rate), **options)
            for tick, picture in reading:
                found.append((tick, hashlib.md5(picture.tobytes()).digest()))
    except UnreadableVideo as caught:
        error = str(caught)
    facts = dataclasses.asdict(reading.facts)
    return facts.pop("unneeded_frames"), (found, error, facts)


def check_same(path, threads=0, **options):
    """The pictures, times, facts and errors are those of decoding all; how many were left out."""
    unneeded, found = seen(FilmFile(path, threads), **options)
    none, expected = seen(WholeFile(path), **options)
    assert found == expected
    assert none == 0
    return unneeded


@functools.cache
def noise(height, width):
    rng = np.random.default_rng(0)
    return rng.integers(0, 256, (height // 4, width // 4, 3), np.uint8).repeat(4, 0).repeat(4, 1)


def moving(number, height, width):
    """Noise that wanders, so that every frame is predicted from others, and shows it."""
    picture = np.roll(noise(height, width), (number, 2 * number), (0, 1)).copy()
    picture[8:16, 8:16] = 37 * number % 256
    return picture


X264, X265 = {"codec": "libx264"}, {"codec": "libx265"}
VP9 = {"deadline": "good", "cpu-used": "8", "auto-alt-ref": "1", "lag-in-frames": "16"}
SVT = {"preset": "12", "svtav1-params": "keyint=20"}


def x264(more):
    return {**X264, "options": {"x264-params": f"scenecut=0:keyint=20:{more}"}}


def x265(more):
    return {**X265, "options": {"x265-params": f"log-level=-1:pools=1:scenecut=0:keyint=20:{more}"}}


LEFT_OUT = {  # of 80 frames, at 4 pictures a second and at one in 2 s: at least
    "h264, pyramid": (x264("bframes=5:b-adapt=0:b-pyramid=normal"), 35, 50),
    "h264, no B-frames": (x264("bframes=0"), 5, 35),
    "h264, open": (x264("bframes=3:b-adapt=0:open-gop=1"), 25, 25),
    "h264, no key frames": (x264("bframes=3:b-adapt=0:intra-refresh=1"), 20, 20),
    "h264, slices": (x264("slices=4:repeat-headers=1:bframes=2:b-adapt=0"), 20, 45),
    "h264, 4:4:4, 10 bits": (x264("bframes=3:b-adapt=0") | {"pix_fmt": "yuv444p10le"}, 25, 45),
    "hevc, open": (x265("bframes=4:b-adapt=0:open-gop=1"), 35, 50),
    "hevc, closed": (x265("bframes=4:b-adapt=0:open-gop=0"), 35, 50),
    "hevc, RADL": (x265("bframes=4:b-adapt=0:open-gop=0:radl=3"), 35, 50),
    "hevc, layers": (x265("bframes=7:b-adapt=0:temporal-layers=3"), 35, 50),
    "vp9": ({"codec": "libvpx-vp9", "key_every": 20, "options": VP9}, 5, 35),
    "av1": ({"codec": "libsvtav1", "options": SVT}, 5, 35),
}
ALL = {
    "h264, fields": x264("tff=1"),
    "mpeg4": {"codec": "mpeg4", "b_frames": 2},
    "vp8": {"codec": "libvpx", "options": {"deadline": "realtime", "cpu-used": "8"}},
    "ffv1": {"codec": "ffv1"},
}


@pytest.mark.parametrize("name", LEFT_OUT)
@pytest.mark.parametrize("ending", ["mp4", "mkv"])
def test_pictures_are_the_same(tmp_path, video, name, ending):
    form, often, seldom = LEFT_OUT[name]
    path = video.write(tmp_path / f"v.{ending}", video.steady(80), picture=moving, **form)
    assert check_same(path, rate=25) == 0
    assert check_same(path, threads=1, rate=4) == check_same(path, threads=3, rate=4)
    assert check_same(path, rate=4) >= often
    assert check_same(path, rate=Fraction(1, 2)) >= seldom
    assert check_same(path, looks=[1.3, 1.31]) >= seldom


@pytest.mark.parametrize("name", ALL)
def test_other_codecs_are_decoded_whole(tmp_path, video, name):
    path = video.write(tmp_path / "v.mkv", video.steady(40), picture=moving, **ALL[name])
    assert check_same(path, rate=1) == 0


@pytest.mark.parametrize(
    ("ending", "codec"),
    [("ts", "libx264"), ("avi", "libx264"), ("nut", "libx265"), ("mxf", "mpeg2video"),
     ("wmv", "wmv2"), ("dv", "dvvideo"), ("ivf", "libvpx-vp9")],
)  # fmt: skip
def test_other_containers_are_decoded_whole(tmp_path, video, ending, codec):
    form = {"b_frames": 2} if codec in ("libx264", "mpeg2video") else {}
    if codec == "dvvideo":
        form = {"size": (576, 720)}
    path = tmp_path / f"v.{ending}"
    video.write(
        path, video.steady(40), codec=codec, time_base=Fraction(1, 25), picture=moving, **form
    )
    assert check_same(path, rate=1) == 0


def test_edit_lists(tmp_path, video):
    """Frames that are cut away are there for decoding only, and are no frames of the film."""
    times = [t - 1 for t in video.steady(100)]
    path = video.write(
        tmp_path / "v.mp4", times, picture=moving, muxer={"avoid_negative_ts": "disabled"},
        **x264("bframes=3:b-adapt=0"),
    )  # fmt: skip
    assert check_same(path, rate=1) > 25
    assert VideoSampler(FilmFile(path), rate=Fraction(1)).facts.start_s == 0


def test_a_file_cut_out_of_another(tmp_path, video):
    """It begins with pictures that are predicted from what is no longer there."""
    whole = video.write(
        tmp_path / "v.mkv", video.steady(80), picture=moving,
        **x265("bframes=4:b-adapt=0:open-gop=1"),
    )  # fmt: skip
    path = tmp_path / "cut.mkv"
    with av.open(str(whole)) as given, av.open(str(path), "w") as container:
        stream = container.add_stream_from_template(given.streams.video[0])
        keys = 0
        for packet in given.demux(video=0):
            keys += packet.is_keyframe
            if packet.size and keys > 1:
                packet.stream = stream
                container.mux(packet)
    check_same(path, rate=2)


def test_clips(data_dir):
    """Files as others made them."""
    files = sorted((data_dir / "clips").iterdir())
    assert files
    for path in files:
        check_same(path, rate=Fraction(2, 3), allow_partial=True)


STRUCTURES = st.fixed_dictionaries(
    {
        "bframes": st.integers(0, 8),
        "keyint": st.integers(1, 40),
        "ref": st.integers(1, 4),
        "open-gop": st.booleans().map(int),
        "b-adapt": st.just(0),
        "scenecut": st.sampled_from([0, 40]),
    }
)


@pytest.mark.parametrize("codec", ["x264", "x265"])
@settings(max_examples=15, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    structure=STRUCTURES,
    gaps=st.lists(st.integers(1, 200), min_size=20, max_size=70),
    looks=st.lists(st.integers(-100, 6000).map(lambda ms: ms / 1000), max_size=6),
    rate=st.fractions(Fraction(1, 4), 30, max_denominator=4),
)
def test_any_structure_and_any_times(tmp_path, video, codec, structure, gaps, looks, rate):
    times = [Fraction(t, 1000) for t in np.cumsum([0, *gaps]).tolist()]
    settings = ":".join(f"{key}={value}" for key, value in structure.items())
    path = tmp_path / "v.mkv"
    size = (48, 80) if codec == "x264" else (64, 64)
    form = x264(settings) if codec == "x264" else x265(settings)
    video.write(path, times, picture=moving, size=size, **form)
    check_same(path, looks=looks)
    check_same(path, rate=rate)


def packets_of(path):
    with av.open(str(path)) as container:
        return [(p.pos, p.size, p.pts * p.time_base) for p in container.demux(video=0) if p.size]


@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(begin=st.integers(0, 79), count=st.integers(1, 12), rate=st.sampled_from([1, 2, 4, 7]))
def test_damage(film, begin, count, rate):
    """What is noticed has the same outcome; what is not hurts no picture that is shown."""
    damaged = spoil(film, begin, count)
    sent = []
    with pytest.MonkeyPatch.context() as patch:
        send = sparing.SparingDecoder._send
        patch.setattr(
            sparing.SparingDecoder,
            "_send",
            lambda self, c: sent.append(c.packet.pos) or send(self, c),
        )
        _, found = seen(FilmFile(damaged), rate=rate, allow_partial=True)
    _, expected = seen(WholeFile(damaged), rate=rate, allow_partial=True)
    spoilt = [pos for pos, _, _ in packets_of(film)[begin : begin + count]]
    if not set(spoilt) - set(sent):
        assert found == expected
    else:
        _, intact = seen(FilmFile(film), rate=rate)
        right = dict(intact[0])
        held = dict(expected[0])
        assert all(picture in (right[tick], held.get(tick)) for tick, picture in found[0])
        assert set(held) <= set(dict(found[0])) | ({*held} if found[1] else set())


@pytest.fixture(scope="module")
def film(tmp_path_factory, video):
    path = tmp_path_factory.mktemp("films") / "v.mp4"
    return video.write(
        path, video.steady(80), picture=moving, **x264("bframes=3:b-adapt=0:b-pyramid=normal")
    )


def spoil(whole, begin, count):
    """A copy in which so many packets hold nothing."""
    data = bytearray(whole.read_bytes())
    for position, size, _ in packets_of(whole)[begin : begin + count]:
        data[position + 4 : position + size] = b"\xff" * (size - 4)
    path = whole.with_name("damaged.mp4")
    path.write_bytes(data)
    return path


def test_much_that_nobody_needs_does_not_wait_for_ever(tmp_path, video, monkeypatch):
    """Of packets that may be needed yet, so many are held and no more."""
    path = video.write(
        tmp_path / "v.mp4", video.steady(120), picture=moving, **x264("keyint=1000:bframes=0")
    )
    monkeypatch.setattr(sparing, "MAX_HELD", 8_000)
    most = []
    place = sparing.SparingDecoder._place

    def placed(self, coming):
        place(self, coming)
        most.append(self._held_bytes)

    monkeypatch.setattr(sparing.SparingDecoder, "_place", placed)
    check_same(path, looks=[4.0])
    assert max(most) <= 8_000
    assert sum(size for _, size, _ in packets_of(path)) > 30_000


class ReadPacket(bytes):
    """A packet as far as it is looked at before it is decoded."""

    pts, is_corrupt, is_discard = 0, False, False

    @property
    def size(self):
        return len(self)


@pytest.mark.parametrize(
    ("stamps", "why"),
    [
        ([0, 10**6, *range(1, 2000)], "shown last"),
        ([*range(100), 50], "run backwards"),
        ([*range(0, 40, 2), 38], "two frames at one time"),
        ([0, None], "without a time"),
    ],
)
def test_times_that_make_no_sense(stamps, why):
    """No more is read ahead than makes sense, and nothing is concluded from it."""
    read, given = [], []

    def packets():
        for stamp in stamps:
            packet = ReadPacket(b"\x82\0")
            packet.pts = stamp
            read.append(stamp)
            yield packet
        yield ReadPacket()

    with pytest.raises(Unclear, match=why):
        given.extend(Lookahead(packets(), reader("vp9", b""), lambda *times: False))
    assert len(read) - len(given) <= MAX_WAITING + 2


@settings(max_examples=300)
@given(
    decoder=st.sampled_from(["h264", "hevc", "vp9", "libdav1d", "mpeg4"]),
    setup=st.binary(max_size=60),
    packets=st.lists(st.binary(max_size=60), max_size=3),
    known=st.booleans(),
)
def test_any_bytes_are_understood_or_unclear(decoder, setup, packets, known):
    """Nothing else comes of a stream that is none."""
    if known:
        setup = {"h264": AVCC, "hevc": b"\1" + bytes(20) + b"\3\0"}.get(decoder, b"") + setup
    try:
        says = reader(decoder, setup)
        for packet in packets:
            assert isinstance(says(memoryview(packet)), PacketRole)
    except Unclear:
        pass


AVCC = bytes.fromhex("0142c00affe1000a6742c00add0f440000030001000468ce0f20")
"""A baseline stream of 16 x 16 pixels."""


@pytest.mark.parametrize(
    ("decoder", "setup", "packet", "role"),
    [
        ("vp9", b"", "82498342", PacketRole(Entry.CLOSED)),
        ("vp9", b"", "86004092", PacketRole()),
        ("vp9", b"", "88", PacketRole()),  # one that was decoded before is shown
        ("vp9", b"", "42", None),
        ("libdav1d", b"", "12000a02000032021000", PacketRole(Entry.CLOSED)),
        ("libdav1d", b"", "120032021000", PacketRole()),  # nothing says of which sequence
        (
            "libdav1d",
            b"",
            "12000a02000032020000",
            PacketRole(),
        ),  # a key frame that is not shown yet
        ("libdav1d", b"", "12000a02080032021000", None),  # a still picture
        ("mpeg4", b"", "000001b6", None),
    ],
)
def test_packets(decoder, setup, packet, role):
    if role is None:
        with pytest.raises(Unclear):
            reader(decoder, setup)(memoryview(bytes.fromhex(packet)))
    else:
        assert reader(decoder, setup)(memoryview(bytes.fromhex(packet))) == role


def test_paths_are_sources(tmp_path, video):
    """A path leaves out what a source does."""
    path = video.write(tmp_path / "v.mp4", video.steady(40), **x264("bframes=2"))
    assert isinstance(path, Path)
    assert seen(path, rate=1) == seen(FilmFile(path), rate=1)
