from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from antcache.annotations import PROTOCOLS, Protocol, Segments, read_annotations
from antcache.errors import BadConfig, MissingFeature
from antcache.store import Features, Store
from antcache.windows.index import (
    BEFORE_FEATURES,
    GAP_IN_FEATURES,
    NO_FEATURES,
    SHORT_FEATURES,
    TOO_EARLY,
    UNLABELLED,
    WindowIndex,
    by_video,
    stream_features,
)

FOUR = Protocol(gap_s=1.0, num_frames=4, rate=2.0)


def made(
    num_rows: int,
    fps: float = 2.0,
    start_s: float = 0.0,
    times: list[float] | None = None,
    **rule: float,
) -> Features:
    """Features without a byte behind them: only times and counts are looked at."""
    return Features(
        rows=np.broadcast_to(np.float16(0), (num_rows, 1)),
        fps=fps,
        start_s=start_s,
        times=None if times is None else np.asarray(times, dtype=np.float64),
        **rule,
    )


def starting(
    *start_s: float, stop_s: tuple[float, ...] | None = None, video: str = "v"
) -> Segments:
    count = len(start_s)
    return Segments.of(
        uid=[f"u{i}" for i in range(count)],
        video=[video] * count,
        start_s=start_s,
        stop_s=stop_s or [s + 1 for s in start_s],
        verb=[0] * count,
        noun=[0] * count,
        action=range(count),
    )


def test_rows_by_hand() -> None:
    """Start 5 s: the window ends at 4 s, frames at 2.5, 3, 3.5, 4 s; rows at 2 per second."""
    index = WindowIndex.build({"v": made(100)}, starting(5.0), FOUR)
    assert index.rows.tolist() == [[5, 6, 7, 8]]
    assert not index.padded.any()
    assert index.dropped == {}


def test_rows_of_another_rate_and_start() -> None:
    """Rows at 0.1, 0.5, 0.9, ... s: the last at or before 2.5, 3, 3.5, 4 s."""
    index = WindowIndex.build({"v": made(100, fps=2.5, start_s=0.1)}, starting(5.0), FOUR)
    assert index.rows.tolist() == [[6, 7, 8, 9]]


def test_frames_before_the_video_are_padded_with_the_first() -> None:
    """Start 2 s: frames at -0.5, 0, 0.5, 1 s; frame 0 does not exist either (they start at 1)."""
    index = WindowIndex.build({"v": made(100)}, starting(2.0), FOUR)
    assert index.rows.tolist() == [[1, 1, 1, 2]]
    assert index.padded.tolist() == [[True, True, False, False]]


def test_frames_before_the_first_row_are_padded() -> None:
    """Rows begin at 3.2 s: frames at 2.5 and 3 s take the smallest row that the window has."""
    index = WindowIndex.build({"v": made(100, start_s=3.2)}, starting(5.0), FOUR)
    assert index.rows.tolist() == [[0, 0, 0, 1]]
    assert index.padded.tolist() == [[True, True, False, False]]


def test_every_reason_names_its_segments() -> None:
    segments = starting(1.0, 3.0, 5.0, 9.0, 11.0)
    features = {"v": made(16, start_s=2.5)}  # rows at 2.5 to 10 s
    index = WindowIndex.build(features, segments, FOUR)
    assert index.dropped == {TOO_EARLY: ("u0",), BEFORE_FEATURES: ("u1",)}
    assert index.labels.uid.tolist() == ["u2", "u3", "u4"]
    assert index.segment.tolist() == [2, 3, 4]
    assert index.labels.action.tolist() == [2, 3, 4]
    index = WindowIndex.build({"v": made(15, start_s=2.5)}, segments, FOUR, allow_missing=True)
    assert index.dropped[SHORT_FEATURES] == ("u4",)
    index = WindowIndex.build({}, segments, FOUR, allow_missing=True)
    assert index.dropped == {TOO_EARLY: ("u0",), NO_FEATURES: ("u1", "u2", "u3", "u4")}
    assert len(index) == 0


def test_missing_features_are_an_error_with_numbers_and_names() -> None:
    with pytest.raises(MissingFeature, match=r"2 of 3 segments.*no_features 2.*1 videos: v \(2\)"):
        WindowIndex.build({}, starting(1.0, 5.0, 7.0), FOUR, where="store")
    with pytest.raises(MissingFeature, match="short_features 1"):
        WindowIndex.build({"v": made(8)}, starting(5.0), FOUR)
    WindowIndex.build({"v": made(9)}, starting(5.0), FOUR)
    with pytest.raises(MissingFeature, match="no_features 1"):
        WindowIndex.build({"v": made(0)}, starting(5.0), FOUR)


def test_listed_times() -> None:
    """The last listed row counts until the next is due: 2 periods here, 1 s."""
    times = [0.0, 0.5, 1.1, 1.6, 2.1, 2.6, 3.1, 3.4]
    index = WindowIndex.build({"v": made(8, times=times)}, starting(5.0), FOUR)
    assert index.rows.tolist() == [[4, 5, 7, 7]]
    short = WindowIndex.build({"v": made(8, times=times)}, starting(5.5), FOUR, allow_missing=True)
    assert short.dropped == {SHORT_FEATURES: ("u0",)}
    holed = {"v": made(4, times=[0.0, 1.2, 3.9, 4.0])}  # nothing between 1.2 and 3.9 s
    hole = WindowIndex.build(holed, starting(5.0), FOUR, allow_missing=True)
    assert hole.dropped == {GAP_IN_FEATURES: ("u0",)}


@pytest.mark.parametrize(
    ("rule", "reasons"),
    [
        ({"step_s": 0.5}, {GAP_IN_FEATURES: "u1 u2", SHORT_FEATURES: "u4 u5"}),
        ({"step_s": 0.6}, {GAP_IN_FEATURES: "u2", SHORT_FEATURES: "u5"}),
        ({"step_s": 0.5, "max_age_s": 0.3}, {GAP_IN_FEATURES: "u1 u2", SHORT_FEATURES: "u4 u5"}),
        ({"step_s": 0.5, "max_age_s": 0.5}, {GAP_IN_FEATURES: "u2", SHORT_FEATURES: "u5"}),
        ({"step_s": 0.5, "max_age_s": 0.9}, {GAP_IN_FEATURES: "u2", SHORT_FEATURES: "u5"}),
        ({"step_s": 0.5, "max_age_s": 1.0}, {}),
    ],
)
def test_gaps_and_what_fills_them(rule: dict[str, float], reasons: dict[str, str]) -> None:
    """Rows every 0.5 s from 0 to 10 s, but not at 5.5 and 6 s; windows of one frame."""
    times = [t / 2 for t in range(21) if t not in (11, 12)]
    one = Protocol(gap_s=0.0, num_frames=1, rate=1.0)
    segments = starting(5.0, 5.5, 6.0, 10.0, 10.5, 11.0)
    features = {"v": made(len(times), times=times, **rule)}
    index = WindowIndex.build(features, segments, one, allow_missing=True)
    assert index.dropped == {why: tuple(uids.split()) for why, uids in reasons.items()}
    seen = {u: times[row] for u, (row,) in zip(index.labels.uid.tolist(), index.rows, strict=True)}
    expected = {"u0": 5.0, "u1": 5.0, "u2": 5.0, "u3": 10.0, "u4": 10.0, "u5": 10.0}
    lost = " ".join(reasons.values()).split()
    assert seen == {u: t for u, t in expected.items() if u not in lost}


def test_the_last_row_of_an_even_video_may_stand_in() -> None:
    """Rows every 0.5 s to 4 s; frames at 4.5 s are past the end, and 0.5 s from the last row."""
    assert WindowIndex.build({"v": made(9)}, starting(5.4), FOUR).rows[0, -1] == 8
    for rule in ({}, {"max_age_s": 0.4}, {"step_s": 0.6}):
        with pytest.raises(MissingFeature, match="short_features 1"):
            WindowIndex.build({"v": made(9, **rule)}, starting(5.5), FOUR)
    index = WindowIndex.build({"v": made(9, max_age_s=0.5)}, starting(5.5), FOUR)
    assert index.rows.tolist() == [[6, 7, 8, 8]]
    assert not index.padded.any()


def test_labels_of_frames() -> None:
    """Frames at 2.5, 3, 3.5, 4 s; of two actions under way the one that began last counts."""
    segments = starting(0.0, 2.8, 3.0, 5.0, stop_s=(2.5, 4.0, 3.5, 6.0))
    index = WindowIndex.build({"v": made(100)}, segments, FOUR)
    row = index.labels.uid.tolist().index("u3")
    assert index.labels.frame_action[row].tolist() == [UNLABELLED, 2, 1, UNLABELLED]
    padded = WindowIndex.build({"v": made(100)}, starting(0.0, 2.0, stop_s=(2.0, 3.0)), FOUR)
    assert padded.labels.frame_action.tolist() == [[UNLABELLED, UNLABELLED, 0, 0]]


@settings(deadline=None, derandomize=True, max_examples=200)
@given(
    start_s=st.lists(st.floats(0, 60), min_size=1, max_size=6),
    num_rows=st.integers(1, 200),
    fps=st.sampled_from([0.5, 1.0, 3.0, 4.0, 29.97, 30.0]),
    first_s=st.floats(0, 20),
    listed=st.booleans(),
    gap_s=st.sampled_from([0.0, 0.5, 1.0]),
    rate=st.sampled_from([1.0, 2.0, 4.0, 7.0]),
)
def test_no_row_was_seen_after_its_frame(
    start_s: list[float],
    num_rows: int,
    fps: float,
    first_s: float,
    listed: bool,
    gap_s: float,
    rate: float,
) -> None:
    seen_s = first_s + np.arange(num_rows) / fps
    features = made(num_rows, fps, first_s, seen_s.tolist() if listed else None)
    protocol = Protocol(gap_s=gap_s, num_frames=5, rate=rate)
    segments = starting(*start_s)
    index = WindowIndex.build({"v": features}, segments, protocol, allow_missing=True)
    assert ((index.rows >= 0) & (index.rows < num_rows)).all()
    assert len(index) + sum(map(len, index.dropped.values())) == len(segments)
    asked_s = segments.start_s[index.segment, None] - gap_s - np.arange(4, -1, -1) / rate
    frame_s, row_s = np.floor(asked_s * 30 + 1e-6) / 30, seen_s[index.rows]
    last_s = frame_s[:, -1]
    assert (row_s <= frame_s + 1e-6)[~index.padded].all()
    assert (row_s <= last_s[:, None] + 1e-6).all()
    assert (frame_s - row_s <= (2 if listed else 1) / fps + 1e-6).all()
    assert (np.diff(index.rows, axis=1) >= 0).all()


@pytest.mark.parametrize(
    ("name", "folder", "dropped", "padded"),
    [("epic-kitchens-55", "epic-kitchens-55", (63, 10), 429), ("egtea", "egtea", (0, 0), None)],
)
def test_figures_of_the_real_annotations(
    data_dir: object, name: str, folder: str, dropped: tuple[int, int], padded: int | None
) -> None:
    dataset = read_annotations(name, data_dir / folder)  # type: ignore[operator]
    features = {video: made(10**6, fps=4.0) for s in dataset.splits.values() for video in s.videos}
    indices = {
        split: WindowIndex.build(features, segments, PROTOCOLS[name])
        for split, segments in dataset.splits.items()
    }
    lost = [len(i.dropped.get(TOO_EARLY, ())) for i in (indices["train"], indices["validation"])]
    assert tuple(lost) == dropped
    if padded is not None:
        assert sum(i.num_padded for i in indices.values()) == padded


def test_by_video_partitions() -> None:
    parts = dict(by_video(np.array(["b", "a", "b", "c"])))
    assert {video: members.tolist() for video, members in parts.items()} == {
        "a": [1],
        "b": [0, 2],
        "c": [3],
    }
    assert list(by_video(np.array([], dtype=np.str_))) == []


@pytest.mark.parametrize("backend", ["zarr", "hdf5"])
def test_features_of_a_store(make_store: Callable[..., Store], backend: str) -> None:
    store = make_store(backend=backend)
    segments = store.labels("train")
    store.remove("features/rgb/t0")
    features = stream_features(store, "rgb", segments)
    assert sorted(features) == ["t1", "t2", "t3", "t4", "t5"]
    index = WindowIndex.build(features, segments, FOUR, allow_missing=True)
    assert len(index.dropped[NO_FEATURES]) == 7  # the eighth starts at 0 s


@pytest.mark.parametrize(("anchor", "last"), [(0.0, 8), (0.5, 12), (1.0, 16)])
def test_the_window_ends_a_gap_before_the_anchor(anchor: float, last: int) -> None:
    """From 5 s to 9 s: it ends at 4 s, 6 s or 8 s, rows at 2 per second."""
    protocol = replace(FOUR, anchor=anchor)
    index = WindowIndex.build({"v": made(100)}, starting(5.0, stop_s=(9.0,)), protocol)
    assert index.rows.tolist() == [[last - 3, last - 2, last - 1, last]]


def test_what_is_too_early_is_so_at_the_anchor() -> None:
    """Starts 0.5 s, ends 1.5 s: nothing is seen a second before the start, 0.5 s before the end."""
    both = starting(0.5)
    at_start = WindowIndex.build({"v": made(100)}, both, FOUR)
    at_end = WindowIndex.build({"v": made(100)}, both, replace(FOUR, anchor=1.0))
    assert (len(at_start), len(at_end)) == (0, 1)
    assert at_start.dropped == {TOO_EARLY: ("u0",)}


def test_a_list_without_stops_has_the_start_for_an_anchor() -> None:
    listed = starting(5.0, 9.0, stop_s=(float("nan"), 10.0))
    assert len(WindowIndex.build({"v": made(100)}, listed, FOUR)) == 2
    with pytest.raises(BadConfig, match=r"needs to know when.* 1 of 2 segments without one"):
        WindowIndex.build({"v": made(100)}, listed, replace(FOUR, anchor=0.5))
