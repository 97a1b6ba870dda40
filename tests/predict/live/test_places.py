"""What may be watched, and what is said of what may not."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from antcache.errors import AntcacheError, NotFound, UnreadableVideo
from antcache.predict.live.places import Camera, StreamUrl, place_of


def test_a_file_is_a_file_whatever_it_is_called(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("0").touch()
    assert place_of("./0") == Path("0")


@pytest.mark.parametrize(
    "url", ["rtsp://camera.local/stream", "http://[::1]:80/x.mp4?key=1", "https://a/b"]
)
def test_urls(url: str) -> None:
    assert place_of(url) == StreamUrl(url)
    assert place_of(url.replace("://", "://").replace("rtsp", "RTSP")) == StreamUrl(url)


def test_what_a_url_is_called_keeps_secrets() -> None:
    assert str(StreamUrl("rtsp://admin:pass@cam:554/live/1?token=abc#x")) == "rtsp://cam:554/live/1"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("ftp://a/b", r"expected rtsp or rtsps or http or https.*found ftp://\.\.\."),
        ("file:///etc/passwd", r"found file://\.\.\."),
        ("http:///x", "found another form"),
        ("http://a:99999/x", "found another form"),
        ("http://a:b/x", "found another form"),
        ("http://[::1/x", "found another form"),
        ("http://a/\x1b[31m", "found another form"),
        ("http://user:pass@/x", "found another form"),
        ("", "nothing to watch|a folder"),
        ("nowhere.mp4", "nowhere.mp4: nothing to watch: .*the number of a camera"),
        ("1234", "1234: nothing to watch"),
        (".", "not a video: expected a file; of a camera, its number, found a folder"),
    ],
)
def test_what_is_no_source_is_refused_in_one_line(text: str, said: str) -> None:
    with pytest.raises(AntcacheError, match=said) as refused:
        place_of(text)
    assert "pass@" not in str(refused.value)
    assert "\n" not in str(refused.value)


def test_no_device_is_read_as_a_file() -> None:
    with pytest.raises(UnreadableVideo, match="found no regular file"):
        place_of("/dev/zero")


@pytest.mark.skipif(sys.platform != "linux", reason="cameras are files on Linux")
def test_a_camera_that_is_not_there() -> None:
    assert not Path("/dev/video873").exists()
    with pytest.raises(NotFound, match=r"/dev/video873: no such camera: found .*\./873\)"):
        place_of("873")


def test_a_camera_is_called_by_its_number(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "platform", "darwin")
    assert place_of("2") == Camera(2)
    assert str(Camera(2)) == "camera 2"
