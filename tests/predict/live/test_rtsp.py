"""A camera that speaks RTSP: what it sends is decoded, and dated by its own clock."""

from __future__ import annotations

from contextlib import closing

import numpy as np
import pytest
from rtsp_server import FPS, rtsp

from antcache.errors import Unreachable, UnreadableVideo
from antcache.predict.live.opening import open_source
from antcache.predict.live.places import StreamUrl
from antcache.predict.live.streams import LiveVideo


def test_frames_come_over_rtsp() -> None:
    with rtsp(frames=60) as server:
        place = StreamUrl(f"rtsp://me:secret@127.0.0.1:{server.port}/live")
        source = LiveVideo(place, open_source(place))
        assert source.opened.live
        assert source.opened.dated
        times, shapes = [], set()
        with closing(source):
            frames = source.frames(max_gap_s=2.0, allow_partial=True)
            try:
                for time, frame in frames:
                    times.append(float(time))
                    shapes.add(frames.picture(frame).shape)
            except UnreadableVideo as error:
                assert "secret" not in str(error)  # noqa: PT017
    assert server.asked[:4] == ["OPTIONS", "DESCRIBE", "SETUP", "PLAY"]
    assert 10 <= len(times) <= 60  # those by which FFmpeg learns what it is are not given
    assert times[0] == 0
    assert np.allclose(np.diff(times), 1 / FPS, atol=1e-3)
    assert shapes == {(48, 80, 3)}
    assert source.times.jumps == 0


def test_a_stream_that_is_not_there() -> None:
    said = r"rtsp://127\.0\.0\.1:\d+/other: .*404"
    with rtsp(frames=1) as server, pytest.raises(Unreachable, match=said):
        open_source(StreamUrl(f"rtsp://me:secret@127.0.0.1:{server.port}/other"))
