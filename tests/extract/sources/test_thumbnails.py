"""Small pictures of a video: the last frame at each time, for a browser, or why there is none."""

from __future__ import annotations

import base64
import io
from bisect import bisect_right
from fractions import Fraction

import numpy as np
import pytest
from PIL import Image

from antcache.errors import BadConfig, UnreadableVideo
from antcache.extract.sources.thumbnails import data_url, thumbnails


def opened(jpeg):
    return np.asarray(Image.open(io.BytesIO(jpeg)))


def test_each_shows_the_last_frame_at_its_time(tmp_path, video):
    frames = [Fraction(n, 10) + (Fraction(1, 2) if n > 20 else 0) for n in range(40)]
    path = video.write(tmp_path / "a.mp4", frames, size=(96, 160))
    asked = [3.95, 0.05, 2.2, 2.2, 0.1, 1.0]  # in any order, twice; one in a gap between frames
    made = thumbnails(path, asked, height=48)
    shown = [video.number_on(opened(each)) for each in made]
    assert shown == [bisect_right(frames, time) - 1 for time in asked]
    assert opened(made[0]).shape == (48, 80, 3)


def test_before_the_first_and_after_the_last_frame(tmp_path, video):
    times = [1 + Fraction(n, 10) for n in range(20)]
    path = video.write(tmp_path / "a.mkv", times, sound_s=3.0)  # which begins at 0
    shown = [video.number_on(opened(each)) for each in thumbnails(path, [0.0, 99.0, 1.5])]
    assert shown == [0, 19, 5]


def test_no_times_and_times_that_are_none(tmp_path, video):
    path = video.write(tmp_path / "a.mp4", video.steady(10))
    assert thumbnails(path, []) == []
    with pytest.raises(BadConfig, match="not a number"):
        thumbnails(path, [0.1, float("nan")])


def test_a_wide_picture_is_lower(tmp_path, video):
    path = video.write(tmp_path / "a.mp4", video.steady(5), size=(16, 256))
    assert opened(thumbnails(path, [0.0], height=100)[0]).shape == (25, 400, 3)


def test_what_is_no_video(tmp_path):
    (tmp_path / "a.mp4").write_bytes(b"no video" * 100)
    with pytest.raises(UnreadableVideo, match=r"a\.mp4"):
        thumbnails(tmp_path / "a.mp4", [0.0])


def test_a_page_can_hold_one():
    kind, _, text = data_url(b"\xff\xd8").partition(",")
    assert kind == "data:image/jpeg;base64"
    assert base64.b64decode(text) == b"\xff\xd8"
