"""Which pictures of a file are the film, when they are shown, and in which shape."""

from __future__ import annotations

from fractions import Fraction

import av
import numpy as np
import pytest

from antcache.errors import UnreadableVideo
from antcache.extract.videos.decode import VideoSampler
from antcache.extract.videos.film import duration_s

DIVX = b"\0\0\1\xb2DivX503b1393p\0"
"""Mark of a packed bitstream, by which decoders know one."""

NOT_CODED = bytes.fromhex("000001b6504f")
"""A picture of MPEG-4 that says nothing: it keeps the place of one that came before its turn."""


def sample(path, rate=4, **options):
    sampler = VideoSampler(path, rate=Fraction(rate), **options)
    return sampler, list(sampler)


def write_after(path, video, *, thumbnails=1, codec="libx264", frames=75):
    """A file whose streams 0, 1, ... are one red picture each, and whose last is a film."""
    with av.open(str(path), "w") as container:
        reds = [container.add_stream("mjpeg", rate=25) for _ in range(thumbnails)]
        film = container.add_stream(codec, rate=25) if frames else None
        for stream in (*reds, *([film] if film else [])):
            stream.width, stream.height = 80, 48
            stream.pix_fmt = "yuv420p" if stream is film else "yuvj420p"
        red = np.broadcast_to(np.array([250, 0, 0], np.uint8), (48, 80, 3)).copy()
        for stream in reds:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(red, format="rgb24")))
            container.mux(stream.encode())
        for number in range(frames):
            picture = video.barcode(number, 48, 80)
            container.mux(film.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        if film:
            container.mux(film.encode())
    return path


@pytest.mark.parametrize("name", ["a.mkv", "a.mov", "a.mp4", "a.avi"])
@pytest.mark.parametrize("thumbnails", [1, 2])
def test_a_thumbnail_before_the_film_is_not_the_film(tmp_path, video, name, thumbnails):
    codec = "mpeg4" if name == "a.avi" else "libx264"
    path = write_after(tmp_path / name, video, thumbnails=thumbnails, codec=codec)
    sampler, samples = sample(path)
    assert [video.number_on(p) for _, p in samples] == [int(k * 25 / 4) for k in range(12)]
    assert sampler.facts.num_frames == 75
    assert duration_s(path) == pytest.approx(3, abs=0.1)


def test_a_film_before_others_is_found_without_reading_on(tmp_path, video, monkeypatch):
    """Of several films the first counts; no more of the file is read than it takes to know."""
    path = tmp_path / "a.mkv"
    with av.open(str(path), "w") as container:
        streams = [container.add_stream("ffv1", rate=25) for _ in range(2)]
        for stream in streams:
            stream.width, stream.height, stream.pix_fmt = 80, 48, "yuv444p"
        for number in range(50):
            for offset, stream in zip((0, 500), streams, strict=True):
                picture = video.barcode(number + offset, 48, 80)
                container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        for stream in streams:
            container.mux(stream.encode())
    _, samples = sample(path)
    assert [video.number_on(p) for _, p in samples] == [int(k * 25 / 4) for k in range(8)]


def test_files_of_one_picture_are_films_of_one_picture(tmp_path, video):
    path = write_after(tmp_path / "a.mkv", video, thumbnails=2, frames=0)
    sampler, samples = sample(path)
    assert (sampler.facts.num_frames, len(samples)) == (1, 1)


def packed(source, path):
    """MPEG-4 with B-frames as DivX packs it: each with the frame that it is predicted from."""
    with av.open(str(source)) as given, av.open(str(path), "w") as container:
        stream = given.streams.video[0]
        copy = container.add_stream_from_template(stream)
        copy.codec_context.extradata = stream.codec_context.extradata + DIVX
        pictures = [bytes(packet) for packet in given.demux(stream) if packet.size]
        starts = [data.index(b"\0\0\1\xb6") for data in pictures]
        kinds = ["IPB"[data[at + 4] >> 6] for data, at in zip(pictures, starts, strict=True)]
        chunks = []
        for data, at, kind, after in zip(pictures, starts, kinds, [*kinds[1:], ""], strict=True):
            if kind == "I":
                data = data[:at] + DIVX + data[at:]
            if kind == "B" and chunks and chunks[-1][1]:  # beside the one before it
                chunks[-1] = (chunks[-1][0] + data, False)
                chunks += [(NOT_CODED, False)] if after != "B" else []
            elif kind == "B":
                chunks.append((data, False))
                chunks += [(NOT_CODED, False)] if after != "B" else []
            else:
                chunks.append((data, after == "B"))
        for number, (data, _) in enumerate(chunks):
            packet = av.Packet(data)
            packet.stream, packet.time_base = copy, stream.time_base
            packet.pts = packet.dts = number
            packet.is_keyframe = number == 0
            container.mux(packet)
    return path


AVIS = {
    "H.264": {"codec": "libx264", "b_frames": 2},
    "H.264, many B-frames": {"codec": "libx264", "b_frames": 7},
    "MPEG-4": {"codec": "mpeg4", "b_frames": 2},
    "MPEG-2": {"codec": "mpeg2video", "b_frames": 2},
    "MJPEG": {"codec": "mjpeg", "pix_fmt": "yuvj420p"},
    "packed": {"codec": "mpeg4", "b_frames": 1},
    "packed, two B-frames": {"codec": "mpeg4", "b_frames": 2},
}


@pytest.mark.parametrize("kind", AVIS)
def test_an_avi_loses_no_frame(tmp_path, video, kind):
    """An AVI has no times: the order in which the decoder gives the frames counts."""
    path = video.write(
        tmp_path / "a.avi", video.steady(50), time_base=Fraction(1, 25), **AVIS[kind]
    )
    if kind.startswith("packed"):
        path = packed(path, tmp_path / "packed.avi")
    sampler, samples = sample(path, 25)
    assert sampler.facts.num_frames == 50
    assert (sampler.facts.skipped_frames, sampler.facts.skipped_packets) == (0, 0)
    assert [video.number_on(picture) for _, picture in samples] == list(range(50))
    assert [tick for tick, _ in samples] == list(range(50))
    assert 0 <= sampler.facts.start_s <= 0.08


def test_a_damaged_avi_moves_no_frame(tmp_path, video):
    """Frames after those that are lost keep their times."""
    path = video.write(
        tmp_path / "a.avi", video.steady(75), codec="libx264", b_frames=2,
        time_base=Fraction(1, 25),
    )  # fmt: skip
    with av.open(str(path)) as container:
        at = [(p.pos, p.size) for p in container.demux(video=0) if p.size][30:33]
    data = bytearray(path.read_bytes())
    for begin, size in at:
        data[begin : begin + size] = bytes(size)
    path.write_bytes(data)
    sampler, samples = sample(path, 25)
    late = {tick: video.number_on(picture) for tick, picture in samples if tick >= 60}
    assert late == {tick: tick for tick in range(60, 75)}
    assert sampler.facts.num_frames < 75


def circle(number, height, width):
    """A circle, stretched to fill the picture."""
    y, x = (np.mgrid[:height, :width].T / (height, width) - 0.5).T
    return np.repeat(np.where(x * x + y * y < 0.16, 230, 30).astype(np.uint8)[..., None], 3, 2)


def write_anamorphic(path, size, aspect, rotation=None):
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=25, options={"crf": "2"})
        stream.width, stream.height, stream.pix_fmt = size[1], size[0], "yuv420p"
        stream.codec_context.sample_aspect_ratio = aspect
        if rotation is not None:
            stream.set_display_rotation(rotation)
        frame = av.VideoFrame.from_ndarray(circle(0, *size), format="rgb24")
        container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return path


@pytest.mark.parametrize("name", ["a.mp4", "a.mkv", "a.ts"])
@pytest.mark.parametrize(
    ("size", "aspect", "shown"),
    [
        ((64, 96), Fraction(2), (64, 192)),
        ((96, 64), Fraction(1, 2), (192, 64)),
        ((72, 96), Fraction(16, 15), (72, 102)),
        ((64, 96), Fraction(1), (64, 96)),
    ],
)
def test_pixels_become_square(tmp_path, name, size, aspect, shown):
    sampler, samples = sample(write_anamorphic(tmp_path / name, size, aspect))
    picture = samples[0][1]
    assert picture.shape == (*shown, 3)
    assert sampler.facts.pixel_aspect == aspect
    assert np.abs(picture.astype(int) - circle(0, *shown)).mean() < 6


def test_pixels_are_those_of_the_picture_before_it_is_turned(tmp_path):
    path = write_anamorphic(tmp_path / "a.mp4", (64, 96), Fraction(2), rotation=90)
    assert sample(path)[1][0][1].shape == (192, 64, 3)


@pytest.mark.parametrize("aspect", [Fraction(40), Fraction(1, 80)])
def test_pixels_that_nobody_has(tmp_path, aspect):
    path = write_anamorphic(tmp_path / "a.mp4", (64, 96), aspect)
    with pytest.raises(UnreadableVideo, match=r"strips.*stretched from 96 x 64"):
        sample(path)


def test_stretched_pictures_are_not_too_large(tmp_path):
    path = write_anamorphic(tmp_path / "a.mp4", (1024, 1024), Fraction(33))
    with pytest.raises(UnreadableVideo, match=r"too large.*33792 x 1024, stretched"):
        sample(path)


RAW = {
    "a.mjpeg": ("mjpeg", "mjpeg", "yuvj420p"),
    "a.h264": ("h264", "libx264", "yuv420p"),
    "a.m4v": ("m4v", "mpeg4", "yuv420p"),
    "a.mp4": ("mjpeg", "mjpeg", "yuvj420p"),
    "a.avi": ("mpeg2video", "mpeg2video", "yuv420p"),
    "a.gif": ("gif", "gif", "rgb8"),
}


@pytest.mark.parametrize("name", RAW)
def test_streams_without_times_are_not_dated(tmp_path, video, name):
    form, codec, pix_fmt = RAW[name]
    path = tmp_path / name
    with av.open(str(path), "w", format=form) as container:
        stream = container.add_stream(codec, rate=10)
        stream.width, stream.height, stream.pix_fmt = 80, 48, pix_fmt
        for number in range(20):
            frame = av.VideoFrame.from_ndarray(video.barcode(number, 48, 80), format="rgb24")
            container.mux(stream.encode(frame.reformat(format=pix_fmt)))
        container.mux(stream.encode())
    with pytest.raises(UnreadableVideo, match=r"a raw stream"):
        sample(path)
