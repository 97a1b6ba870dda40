"""When rows were seen, by what is said of their windows."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from array_folders import DIM, bring, rows_of, save

from antcache.errors import BadConfig
from antcache.interop.array_files.config import ArraysImportConfig
from antcache.store import Store


@pytest.mark.parametrize(
    ("stride", "window", "video_fps", "padding"),
    [(16, 32, 30, 0), (4, 16, 30, 0), (16, 16, 15, 0), (1, 21, 15, 10), (8, 64, 29.97, 3)],
    ids=["ego4d", "thumos14", "activitynet", "ms-tcn", "other"],
)
@pytest.mark.parametrize("time", ["end", "middle"])
def test_times_are_those_of_windows(
    stride: int, window: int, video_fps: float, padding: int, time: Any
) -> None:
    config = ArraysImportConfig(
        dim=DIM, stride=stride, window=window, video_fps=video_fps, padding=padding, time=time
    )
    rate = Fraction(video_fps)
    for row in (0, 1, 7, 200_000):
        first = row * stride - padding
        seen = [Fraction(first + frame + 1) / rate for frame in range(window)]
        exact = seen[-1] if time == "end" else (Fraction(first) / rate + seen[-1]) / 2
        ours = config.start_s + row / config.rows_per_second
        assert ours == pytest.approx(float(exact), abs=1e-9)
        assert config.ahead_s == pytest.approx(float(seen[-1] - exact), abs=1e-12)
    assert (config.ahead_s > 0) == (time == "middle")


def test_the_middle_is_where_actionformer_has_it() -> None:
    """Its grid has a segment's time t at (t * fps - 0.5 * num_frames) / feat_stride."""
    config = ArraysImportConfig(dim=1, stride=4, window=16, video_fps=30, time="middle")
    seconds = config.start_s + np.arange(1000) / config.rows_per_second
    np.testing.assert_allclose((seconds * 30 - 0.5 * 16) / 4, np.arange(1000), atol=1e-9)


def test_rows_at_a_rate_have_seen_their_period() -> None:
    end = ArraysImportConfig(dim=1, fps=15)
    assert (end.start_s, end.rows_per_second, end.ahead_s) == (1 / 15, 15.0, 0.0)
    middle = ArraysImportConfig(dim=1, fps=15, time="middle")
    assert (middle.start_s, middle.ahead_s) == (0.5 / 15, 0.5 / 15)


def test_times_are_in_the_store_as_the_arithmetic_says(store: Store, tmp_path: Path) -> None:
    save(tmp_path / "in/a.npy", rows_of(9))
    bring(store, tmp_path / "in", fps=None, stride=16, window=32, video_fps=30)
    features, stream = store.features("rgb", "a"), store.stream("rgb")
    np.testing.assert_array_equal(features.seconds, 32 / 30 + np.arange(9) / (30 / 16))
    assert features.times is None
    assert stream.fps == 1.875
    assert stream.sees_ahead_s == 0
    assert stream.config == {
        "importer": "arrays",
        "source": "in",
        "key": None,
        "time": "end",
        "video_fps": 30,
        "stride": 16,
        "window": 32,
        "padding": 0,
        "sees_ahead_s": 0.0,
    }
    assert stream.source == "arrays in: windows of 32 frames every 16 at 30 fps, end times"


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({}, "fps, or all of video_fps, stride and window, found none"),
        ({"fps": 4, "stride": 2, "window": 2, "video_fps": 4}, "found fps, video_fps, stride"),
        ({"stride": 2, "window": 2}, "found stride, window"),
        ({"fps": 4, "padding": 1}, "impossible padding: expected less than a window"),
        ({"stride": 1, "window": 9, "video_fps": 4, "padding": 9}, "impossible padding"),
        ({"fps": 4, "sees_ahead_s": 0}, "`sees_ahead` is for listed times"),
        ({"fps": 4, "time": "listed"}, "listed times need two settings"),
        ({"time": "listed", "sees_ahead_s": 0}, "listed times need two settings"),
        ({"fps": 4, "time": "start"}, "time"),
        ({"fps": 0}, "fps"),
        ({"fps": 4, "dim": 0}, "dim"),
        ({"fps": 4, "layout": "columns"}, "layout"),
        ({"fps": 4, "dtype": "float64"}, "dtype"),
        ({"fps": 4, "stream": "a/b"}, "not a name for a stream"),
    ],
)
def test_what_is_not_said_is_not_guessed(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(BadConfig, match=message):
        ArraysImportConfig(**{"dim": DIM, **settings})
