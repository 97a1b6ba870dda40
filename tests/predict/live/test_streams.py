"""Cameras and URLs are opened, decoded and dated; what can't be is said in one line."""

from __future__ import annotations

import itertools
import sys
from collections.abc import Iterator
from contextlib import closing
from fractions import Fraction
from typing import Any

import av
import live_servers
import numpy as np
import pytest
from live_servers import FPS, JPEGS

from antcache.errors import AntcacheError, BadConfig, NotFound, Unreachable, UnreadableVideo
from antcache.extract.videos.decode import VideoSampler
from antcache.predict.live import opening
from antcache.predict.live.opening import OpenedSource, open_source
from antcache.predict.live.places import Camera, StreamUrl
from antcache.predict.live.streams import LiveVideo


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory, video: Any) -> Iterator[tuple[str, list[str]]]:
    folder = tmp_path_factory.mktemp("served")
    video.write(folder / "film.mp4", video.steady(50))
    video.write(folder / "film.mkv", video.steady(50))
    (folder / "text.mp4").write_text("no video at all\n" * 100)
    (folder / "list.m3u8").write_text("#EXTM3U\n#EXTINF:1,\nfilm.mp4\n#EXT-X-ENDLIST\n")
    (folder / "list.ffconcat").write_text("ffconcat version 1.0\nfile /etc/passwd\n")
    with av.open(str(folder / "sound.mp4"), "w") as container:
        sound = container.add_stream("aac", rate=8000, layout="mono")
        for start in range(0, 8000, 1024):
            silence = np.zeros((1, 1024), np.float32)
            frame = av.AudioFrame.from_ndarray(silence, format="fltp", layout="mono")
            frame.sample_rate, frame.pts, frame.time_base = 8000, start, Fraction(1, 8000)
            container.mux(sound.encode(frame))
        container.mux(sound.encode())
    with live_servers.serving(folder) as served:
        yield served


def taken_until_it_breaks(source: LiveVideo) -> tuple[list[float], list[int], str]:
    """Times and greys of the frames of a source, and what is said at its end."""
    times, greys = [], []
    frames = source.frames(max_gap_s=30.0, allow_partial=True)
    try:
        for time, frame in frames:
            times.append(float(time))
            greys.append(round(frames.picture(frame).mean() / 4))
    except UnreadableVideo as error:
        return times, greys, str(error)
    return times, greys, ""


def watched(url: str) -> LiveVideo:
    place = StreamUrl(url)
    return LiveVideo(place, open_source(place))


def test_a_recording_at_a_url_has_the_frames_of_the_file(
    server: tuple[str, list[str]], video: Any
) -> None:
    source = watched(f"{server[0]}/film.mp4")
    assert not source.opened.live
    with closing(source):
        sampler = VideoSampler(source, rate=Fraction(25))
        seen = [(tick, video.number_on(picture)) for tick, picture in sampler]
    assert seen == [(i, i) for i in range(50)]
    assert source.num_frames == 50


def test_a_camera_in_the_network_is_live_and_dated_by_its_arrival(
    server: tuple[str, list[str]],
) -> None:
    source = watched(f"{server[0]}/camera")
    assert source.opened.live
    assert not source.opened.dated
    with closing(source):
        times, greys, said = taken_until_it_breaks(source)
    assert "camera: it broke off" in said
    assert greys[-1] == JPEGS - 1
    assert greys == sorted(greys)
    assert len(greys) > JPEGS - 5
    assert times[0] == 0
    assert (np.diff(times) > 0).all()
    assert times[-1] > 0.5 * len(times) / FPS
    assert source.shown_s > 0


@pytest.mark.parametrize(
    ("name", "error", "said"),
    [
        ("text.mp4", UnreadableVideo, "text.mp4: not a video"),
        ("sound.mp4", UnreadableVideo, "sound.mp4: no video stream: found only audio"),
        ("list.m3u8", UnreadableVideo, "list.m3u8: not a video"),
        ("list.ffconcat", UnreadableVideo, "not a video that can be watched.*a list of other"),
        ("nothing.mp4", Unreachable, r"nothing.mp4: can't be reached \(Server.* 404"),
        ("elsewhere", Unreachable, r"elsewhere: can't be reached \(.* leads to another URL\)"),
    ],
)
def test_what_a_server_has_may_be_no_video(
    server: tuple[str, list[str]], name: str, error: type[AntcacheError], said: str
) -> None:
    with pytest.raises(error, match=said) as refused:
        open_source(StreamUrl(f"{server[0]}/{name}?token=secret"))
    assert "secret" not in str(refused.value)
    assert "\n" not in str(refused.value)
    assert server[1][-1] == f"/{name}?token=secret"  # nothing else was asked for


def test_nobody_answers() -> None:
    for url in ("http://127.0.0.1:9/x.mp4", "rtsp://127.0.0.1:9/live"):
        with pytest.raises(Unreachable, match=r"127\.0\.0\.1:9/\w.*Connection refused"):
            open_source(StreamUrl(url))


def test_a_server_that_says_nothing_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    import socket

    monkeypatch.setattr(opening, "SILENCE_S", 0.3)
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        url = f"http://127.0.0.1:{silent.getsockname()[1]}/x.mp4"
        with pytest.raises(Unreachable, match=r"no answer for 0\.3 s"):
            open_source(StreamUrl(url))


def test_what_breaks_off_is_seen_as_far_as_it_came(server: tuple[str, list[str]]) -> None:
    with closing(watched(f"{server[0]}/broken")) as source:
        times, _, said = taken_until_it_breaks(source)
    assert 0 < len(times) < 50
    assert "broken: it broke off" in said


def test_half_a_picture_is_none(server: tuple[str, list[str]]) -> None:
    """Decoders make one of it all the same."""
    with closing(watched(f"{server[0]}/half")) as source:
        times, _, said = taken_until_it_breaks(source)
    assert len(times) == 2
    assert source.skipped_packets == 1
    assert "half: it broke off" in said


CAMERA = "testsrc=size=80x48:rate=25"
"""A picture that FFmpeg makes, by way of an input device as cameras are."""


@pytest.fixture
def camera(monkeypatch: pytest.MonkeyPatch) -> Camera:
    monkeypatch.setattr(opening, "DEVICES", {sys.platform: "lavfi"})
    monkeypatch.setattr(opening, "_device", lambda camera, form: CAMERA)
    return Camera(0)


def test_a_camera_is_live(camera: Camera) -> None:
    opened = open_source(camera)
    assert opened.live
    with closing(LiveVideo(camera, opened)) as source:
        frames = source.frames(max_gap_s=2.0, allow_partial=True)
        taken = list(itertools.islice(frames, 30))
        assert [time for time, _ in taken] == [Fraction(i, 25) for i in range(30)]
        assert frames.picture(taken[-1][1]).shape == (48, 80, 3)


def test_cameras_that_ffmpeg_lacks_are_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(opening, "DEVICES", {sys.platform: "avfoundation"})
    with pytest.raises(BadConfig, match=r"camera 0: cameras can't be read: expected a PyAV.*"):
        open_source(Camera(0))
    monkeypatch.setattr(opening, "DEVICES", {})
    with pytest.raises(BadConfig, match=r"camera 0: cameras can't be read"):
        open_source(Camera(0))


def test_a_camera_that_is_gone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(opening, "DEVICES", {sys.platform: "v4l2"})
    with pytest.raises(NotFound, match=r"camera 873 \(/dev/video873\): no camera that can be open"):
        open_source(Camera(873))


class Undated:
    """An opened source whose frames come when the test says."""

    def __init__(self, real: OpenedSource) -> None:
        self.container, self.stream = real.container, real.stream
        self.live, self.dated = True, False


def test_behind_a_gap_a_source_begins_anew(camera: Camera) -> None:
    clock = iter([0.0, *(i / 10 for i in range(10)), *(9 + i / 10 for i in range(10))])
    source = LiveVideo(camera, Undated(open_source(camera)), lambda: next(clock))  # type: ignore[arg-type]
    with closing(source):
        first = [float(t) for t, _ in source.frames(max_gap_s=2.0, allow_partial=True)]
        assert source.more
        then = source.frames(max_gap_s=2.0, allow_partial=True)
        second = [float(t) for t, _ in itertools.islice(then, 10)]
    assert first == pytest.approx([i / 10 for i in range(10)])
    assert second == pytest.approx([9 + i / 10 for i in range(10)])
