"""Pictures for film strips: those that a video has, and why it has none."""

from __future__ import annotations

import base64
import io

import numpy as np
import pytest
from PIL import Image

from antcache.errors import BadConfig, NotFound, UnreadableVideo
from antcache.extract.sources.strips import FilmStrips


def opened(address: str) -> np.ndarray:
    kind, _, text = address.partition(",")
    assert kind == "data:image/jpeg;base64"
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(text))))


def test_each_picture_is_that_of_its_time_and_none_is_made_up(tmp_path, video):
    """The video's last frame is at 1.9 s; it stays for a second, and then there is nothing."""
    video.write(tmp_path / "a.mp4", video.steady(20, fps=10))
    strips = FilmStrips(tmp_path, height=64)
    shown = strips("a", [0.0, 0.55, 1.9, 2.8, 3.0])
    assert [None if s is None else video.number_on(opened(s)) for s in shown] == [
        0,
        5,
        19,
        19,
        None,
    ]
    assert strips("a", [9.0]) == [None]


def test_what_is_missing_or_broken_is_an_error_with_its_name(tmp_path, video):
    video.write(tmp_path / "a.mp4", video.steady(5))
    (tmp_path / "b.mp4").write_bytes(b"no video" * 100)
    (tmp_path / "below").mkdir()
    for folder in (tmp_path, tmp_path / "below"):
        (folder / "c.mp4").write_bytes(b"twice")
    strips = FilmStrips(tmp_path)
    with pytest.raises(NotFound, match="no such video"):
        strips("z", [0.0])
    with pytest.raises(UnreadableVideo, match=r"b\.mp4"):
        strips("b", [0.0])
    with pytest.raises(BadConfig, match="two videos are called 'c'"):
        strips("c", [0.0])
    assert strips("a", [0.0]) != [None]
    with pytest.raises(NotFound, match="no such file or folder"):
        FilmStrips(tmp_path / "nowhere")
