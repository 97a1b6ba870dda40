from __future__ import annotations

import gc
import importlib.util
import re
import sys
import weakref
from bisect import bisect_right
from contextlib import closing
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from antcache.errors import MissingExtra, UnreadableVideo
from antcache.extract.prefetch import prefetch
from antcache.extract.videos import film_frames, pyav
from antcache.extract.videos.decode import VideoSampler
from antcache.extract.videos.film import duration_s

TASKS = Path("/proc/self/task")


def sample(path, rate=Fraction(4), **options):
    sampler = VideoSampler(path, rate=Fraction(rate), **options)
    return sampler, list(sampler)


def check_frames(video, sampler, samples, times, rate, start=None):
    """Each tick shows the last frame at or before its time, and the ticks reach the last frame."""
    start = times[0] if start is None else start
    assert [tick for tick, _ in samples] == list(range(int((times[-1] - start) * rate) + 1))
    for tick, picture in samples:
        assert video.number_on(picture) == bisect_right(times, start + tick / Fraction(rate)) - 1


FORMS = [
    ("a.mp4", {"codec": "libx264", "b_frames": 2}),
    ("a.mov", {"codec": "mpeg4"}),
    ("a.avi", {"codec": "mpeg4", "time_base": Fraction(1, 25)}),
    ("a.mkv", {"codec": "libx264", "b_frames": 2}),
    ("a.mkv", {"codec": "ffv1", "pix_fmt": "yuv444p", "size": (91, 161)}),
    ("a.webm", {"codec": "libvpx-vp9"}),
]


@pytest.mark.parametrize(("name", "form"), FORMS)
def test_constant_rate(tmp_path, video, name, form):
    times = video.steady(60)
    path = video.write(tmp_path / name, times, **form)
    for rate in (Fraction(4), Fraction(25), Fraction(30000, 1001)):
        sampler, samples = sample(path, rate)
        check_frames(video, sampler, samples, times, rate)
        assert sampler.facts.start_s == 0.0
        assert sampler.facts.num_frames == 60
        assert samples[0][1].shape == (*form.get("size", (48, 80)), 3)
        assert not sampler.facts.ended_early
        assert sampler.facts.skipped_packets == sampler.facts.skipped_frames == 0


@settings(
    max_examples=12,
    derandomize=True,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(
    gaps=st.lists(st.integers(1, 900), min_size=1, max_size=25),
    rate=st.sampled_from([Fraction(1), Fraction(4), Fraction(10), Fraction(30)]),
)
def test_variable_rate(tmp_path, video, gaps, rate):
    """Any gaps, in milliseconds: never a frame later than the tick."""
    times = [Fraction(t, 1000) for t in np.cumsum([0, *gaps]).tolist()]
    path = video.write(tmp_path / "v.mkv", times, codec="ffv1", pix_fmt="yuv444p")
    sampler, samples = sample(path, rate)
    check_frames(video, sampler, samples, times, rate)


def test_variable_rate_mp4(tmp_path, video):
    times = [Fraction(t, 1000) for t in (0, 40, 41, 250, 499, 501, 1000, 1300, 2999)]
    sampler, samples = sample(video.write(tmp_path / "v.mp4", times, b_frames=2))
    check_frames(video, sampler, samples, times, 4)


def test_time_zero_is_the_start_of_the_container(tmp_path, video):
    """Sound starts at 0, pictures half a second later: the first row is at 0.5 s."""
    times = [Fraction(1, 2) + t for t in video.steady(50)]
    sampler, samples = sample(video.write(tmp_path / "v.mkv", times, sound_s=2.5))
    assert sampler.facts.start_s == pytest.approx(
        0.5, abs=0.15
    )  # the sound has a lead-in of its own
    check_frames(video, sampler, samples, times, 4)

    times = [10 + t for t in video.steady(50)]
    sampler, samples = sample(video.write(tmp_path / "w.mkv", times))
    assert sampler.facts.start_s == 0.0
    check_frames(video, sampler, samples, times, 4)


def test_longer_sound_is_no_truncation(tmp_path, video):
    for name in ("v.mkv", "v.mp4"):
        path = video.write(tmp_path / name, video.steady(25), sound_s=6.0)
        sampler, samples = sample(path)
        assert len(samples) == 4
        assert not sampler.facts.ended_early


def test_no_stated_duration(tmp_path, video):
    times = video.steady(50)
    path = video.write(tmp_path / "v.mkv", times, muxer={"live": "1"})
    assert duration_s(path) is None
    sampler, samples = sample(path)
    check_frames(video, sampler, samples, times, 4)
    assert duration_s(video.write(tmp_path / "w.mkv", times)) == pytest.approx(2.0, abs=0.04)


def test_beginning_cut_away(tmp_path, video):
    """An edit list hides the first 3 s, though they must be decoded: time 0 is where it is cut."""
    times = [t - 3 for t in video.steady(150)]
    path = tmp_path / "v.mp4"
    video.write(path, times, key_every=250, muxer={"avoid_negative_ts": "disabled"})
    sampler, samples = sample(path)
    assert (sampler.facts.start_s, sampler.facts.num_frames) == (0.0, 75)
    assert [video.number_on(p) for _, p in samples] == [75 + int(k * 25 / 4) for k in range(12)]


def test_cover_pictures_are_no_video(tmp_path):
    path = tmp_path / "song.mp4"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("mjpeg", rate=1)
        stream.width, stream.height, stream.pix_fmt = 80, 48, "yuvj420p"
        stream.disposition = av.stream.Disposition.attached_pic
        container.mux(stream.encode(av.VideoFrame.from_ndarray(corners(0, 48, 80), "rgb24")))
        container.mux(stream.encode())
    with pytest.raises(UnreadableVideo, match="no video stream"):
        sample(path)


def test_a_title_that_is_no_text(tmp_path, video):
    """Cameras write titles in any encoding; every PyAV must pass over that."""
    times = video.steady(5)
    path = video.write(tmp_path / "a.mkv", times, title="kitchen")
    path.write_bytes(path.read_bytes().replace(b"kitchen", b"k\xfcche.."))
    sampler, samples = sample(path)
    check_frames(video, sampler, samples, times, 4)


def test_missing_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "av", None)
    spec = importlib.util.spec_from_file_location("without_av", pyav.__file__)
    with pytest.raises(MissingExtra, match=r"'av' is not installed.*antcache\[extract\]"):
        spec.loader.exec_module(importlib.util.module_from_spec(spec))


@pytest.mark.skipif(not TASKS.is_dir(), reason="threads can't be counted here")
def test_a_picture_starts_no_threads(tmp_path, video):
    """Which would live as long as its frame."""
    path = video.write(tmp_path / "v.mp4", video.steady(20), size=(480, 640))
    reader = film_frames.FilmFile(path).frames(max_gap_s=2.0, allow_partial=False)
    frames = [frame for _, frame in reader]
    before = len(list(TASKS.iterdir()))
    pictures = [reader.picture(frame) for frame in frames]
    assert len(list(TASKS.iterdir())) <= before
    assert [video.number_on(each) for each in pictures] == list(range(20))


def test_only_wanted_ticks(tmp_path, video, monkeypatch):
    made = []
    original = film_frames.upright_rgb
    monkeypatch.setattr(film_frames, "upright_rgb", lambda *a: made.append(1) or original(*a))
    path = video.write(tmp_path / "v.mp4", video.steady(50))
    _, samples = sample(path, 25, wanted=lambda tick: tick % 10 == 3)
    assert [(t, video.number_on(p)) for t, p in samples] == [(t, t) for t in range(3, 50, 10)]
    assert len(made) == 5


def corners(number, height, width):
    """Red upper left, green upper right, blue lower left; nothing about it is symmetric."""
    picture = np.zeros((height, width, 3), np.uint8)
    picture[: height // 2, : width // 2, 0] = 255
    picture[: height // 2, width // 2 :, 1] = 255
    picture[height // 2 :, : width // 2, 2] = 255
    return picture


@pytest.mark.parametrize("degrees", [0, 90, 180, 270])
def test_rotation(tmp_path, video, degrees):
    """The display matrix turns counterclockwise, as numpy's rot90 does."""
    path = video.write(tmp_path / "v.mp4", [0], picture=corners, rotation=degrees)
    _, samples = sample(path)
    expected = np.rot90(corners(0, 48, 80), degrees // 90)
    assert samples[0][1].shape == expected.shape
    assert np.abs(samples[0][1].astype(int) - expected).mean() < 12


@pytest.mark.parametrize(("hflip", "vflip"), [(True, False), (False, True), (True, True)])
@pytest.mark.parametrize("degrees", [0, 90])
def test_mirrored(tmp_path, degrees, hflip, vflip):
    """FFmpeg's `av_display_rotation_set`, then `av_display_matrix_flip`: flips what is shown."""
    path = tmp_path / "v.mp4"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=25)
        stream.width, stream.height, stream.pix_fmt = 80, 48, "yuv420p"
        stream.set_display_rotation(degrees, hflip=hflip, vflip=vflip)
        frame = av.VideoFrame.from_ndarray(corners(0, 48, 80), format="rgb24")
        container.mux(stream.encode(frame))
        container.mux(stream.encode())
    _, samples = sample(path)
    expected = np.rot90(corners(0, 48, 80), degrees // 90)
    expected = expected[:: -1 if vflip else 1, :: -1 if hflip else 1]
    assert np.abs(samples[0][1].astype(int) - expected).mean() < 12


def test_slanted_rotation_is_refused(tmp_path, video):
    path = video.write(tmp_path / "v.mp4", [0], rotation=45)
    with pytest.raises(UnreadableVideo, match="multiple of 90"):
        sample(path)


def truncate(path, part=0.5):
    path.write_bytes(path.read_bytes()[: int(path.stat().st_size * part)])
    return path


@pytest.mark.parametrize(
    ("name", "form"),
    [
        ("v.mp4", {"muxer": {"movflags": "faststart"}}),
        ("v.mkv", {}),
        ("v.avi", {"codec": "mpeg4", "time_base": Fraction(1, 25)}),
    ],
)
def test_truncated(tmp_path, video, name, form):
    """An error by default; what is left, and no more, with allow_partial."""
    times = video.steady(250)
    path = video.write(tmp_path / name, times, **form)
    _, whole = sample(path)
    truncate(path)
    with pytest.raises(UnreadableVideo, match=r"v\.\w+: it breaks off \d\.\d\d s before its end"):
        sample(path)
    sampler, part = sample(path, allow_partial=True)
    assert sampler.facts.ended_early
    assert 4 < len(part) < 36
    for (tick, picture), (other, original) in zip(part, whole, strict=False):
        assert tick == other
        assert video.number_on(picture) == video.number_on(original)


def test_half_a_picture_is_none(tmp_path, video):
    """Decoders make one of the part of a packet that a file ends with."""
    form = {"codec": "mjpeg", "pix_fmt": "yuvj420p", "time_base": Fraction(1, 25)}
    path = video.write(tmp_path / "v.avi", video.steady(50), **form)
    _, whole = sample(path, rate=25)
    with av.open(str(path)) as container:
        places = [(p.pos, p.size) for p in container.demux(video=0) if p.size]
    content = path.read_bytes()
    for part in (0.3, 0.6, 0.9):
        position, size = places[30]
        path.write_bytes(content[: position + int(part * size)])
        sampler, seen = sample(path, rate=25, allow_partial=True)
        assert sampler.facts.skipped_packets == 1
        assert len(seen) == 30
        for (tick, picture), (other, original) in zip(seen, whole, strict=False):
            assert tick == other
            np.testing.assert_array_equal(picture, original)


def test_truncated_without_index(tmp_path, video):
    path = truncate(video.write(tmp_path / "v.mp4", video.steady(50)))
    with pytest.raises(UnreadableVideo, match="not a video that can be opened"):
        sample(path, allow_partial=True)


def spoil(path, packets):
    """Overwrite the data of some packets of a video with 0xFF."""
    with av.open(str(path)) as container:
        places = [(p.pos, p.size) for p in container.demux(video=0) if p.size]
    content = bytearray(path.read_bytes())
    for position, size in (places[i] for i in packets):
        content[position : position + size] = b"\xff" * size
    path.write_bytes(content)


def test_corruption_in_the_middle(tmp_path, video):
    """Packets 27..30 are spoilt: frames up to the next key frame (36) are passed over."""
    path = video.write(tmp_path / "v.mp4", video.steady(100))
    spoil(path, range(27, 31))
    sampler, samples = sample(path, 25)
    assert sampler.facts.skipped_packets == 4
    assert sampler.facts.skipped_frames == 5
    assert sampler.facts.num_frames == 91
    shown = [video.number_on(p) for _, p in samples]
    assert shown == [*range(27), *[26] * 9, *range(36, 100)]


def test_long_corruption(tmp_path, video):
    path = video.write(tmp_path / "v.mp4", video.steady(150))
    spoil(path, range(27, 80))
    with pytest.raises(UnreadableVideo, match=r"no intact frame for too long.*at most 2 s.*1\.04"):
        sample(path)
    _, samples = sample(path, 25, max_gap_s=3)
    assert video.number_on(samples[-1][1]) == 149


def test_corrupt_end(tmp_path, video):
    path = video.write(tmp_path / "v.mp4", video.steady(100))
    spoil(path, range(40, 100))
    with pytest.raises(UnreadableVideo, match="it breaks off"):
        sample(path)


def test_nothing_decodable(tmp_path, video):
    path = video.write(tmp_path / "v.mp4", video.steady(20))
    spoil(path, range(20))
    with pytest.raises(UnreadableVideo, match=r"nothing in it can be decoded.* \d+ undec"):
        sample(path)


def test_long_gap(tmp_path, video):
    times = [Fraction(t) for t in (0, 1, 4, 5)]
    path = video.write(tmp_path / "v.mkv", times)
    with pytest.raises(UnreadableVideo, match=r"found 1\.00 s, then 4\.00 s"):
        sample(path)
    sampler, samples = sample(path, max_gap_s=3)
    check_frames(video, sampler, samples, times, 4)


def test_timestamps_that_run_backwards(tmp_path, video, monkeypatch):
    path = video.write(
        tmp_path / "v.avi", video.steady(6), codec="mpeg4", time_base=Fraction(1, 25)
    )
    stamps = iter([0, Fraction(1, 2), Fraction(1, 4), Fraction(1, 2), Fraction(3, 4), 1])
    monkeypatch.setattr(
        film_frames._FrameTimes, "__call__", lambda clock, frame: Fraction(next(stamps))
    )
    sampler, samples = sample(path)
    assert [video.number_on(p) for _, p in samples] == [0, 0, 3, 4, 5]
    assert sampler.facts.skipped_frames == 1

    stamps = iter([0, 1, 2, 3, 0, 1])
    with pytest.raises(UnreadableVideo, match="run backwards"):
        sample(path)


def make_text(path):
    path.write_text("This is not a film.\n" * 50)


def make_empty(path):
    path.touch()


def make_folder(path):
    path.mkdir()


def make_sound(path):
    with av.open(str(path), "w") as container:
        stream = container.add_stream("aac", rate=8000, layout="mono")
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), "fltp", "mono")
        frame.sample_rate, frame.pts = 8000, 0
        container.mux(stream.encode(frame))
        container.mux(stream.encode())


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (make_text, "not a video that can be opened: found 1000 bytes"),
        (make_empty, "not a video that can be opened: found 0 bytes"),
        (make_folder, "not a file: found a folder"),
        (make_sound, "no video stream: found only audio"),
        (lambda path: None, "not a file: found nothing"),
    ],
)
def test_not_a_video(tmp_path, make, message):
    path = tmp_path / "x.mp4"
    make(path)
    with pytest.raises(UnreadableVideo, match=f"^{re.escape(str(path))}: {message}") as caught:
        sample(path)
    assert "\n" not in str(caught.value)
    assert duration_s(path) is None


def resident_bytes():
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="reads Linux's /proc")
def test_memory_does_not_grow_with_length(tmp_path, video, monkeypatch):
    """400 frames of 1.4 MB each: neither frames nor pictures pile up."""
    times = video.steady(400)
    flat = np.zeros((720, 1280, 3), np.uint8)
    path = video.write(
        tmp_path / "v.mp4", times, codec="mpeg4", size=(720, 1280), picture=lambda *_: flat
    )
    live: weakref.WeakSet[np.ndarray] = weakref.WeakSet()
    original = film_frames.upright_rgb

    class Tracked(np.ndarray):
        __hash__ = object.__hash__

    def tracked(*arguments):
        picture = original(*arguments).view(Tracked)
        live.add(picture)
        return picture

    monkeypatch.setattr(film_frames, "upright_rgb", tracked)
    sampler = VideoSampler(path, rate=Fraction(25))
    most_live = most_bytes = 0
    gc.collect()
    before = resident_bytes()
    with closing(prefetch(iter(sampler), 4)) as samples:
        for _ in samples:
            most_live = max(most_live, len(live))
            most_bytes = max(most_bytes, resident_bytes() - before)
    assert sampler.facts.num_frames == 400
    assert most_live <= 4 + 3  # in the queue, with the producer, with the consumer
    assert most_bytes < 100e6  # all 400: 550 MB as frames, 1.1 GB as pictures
