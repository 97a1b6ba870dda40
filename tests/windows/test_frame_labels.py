"""Labels of past frames: ours, and AVT's, against its rule followed one frame at a time."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from antcache.annotations import Protocol, Segments
from antcache.store import Features
from antcache.windows.frame_labels import UNLABELLED, avt_frame_labels, frame_labels
from antcache.windows.index import WindowIndex, join


def segments_of(*spans: tuple[float, float], video: str = "v") -> Segments:
    count = len(spans)
    return Segments.of(
        uid=[f"{video}{i}" for i in range(count)],
        video=[video] * count,
        start_s=[start for start, _ in spans],
        stop_s=[stop for _, stop in spans],
        verb=[0] * count,
        noun=[0] * count,
        action=range(count),
    )


def random_segments(video: str, count: int, seed: int) -> Segments:
    rng = np.random.default_rng(seed)
    start = np.sort(np.round(rng.uniform(1.2, 60, count) * 30) / 30)
    stop = start + np.round(rng.uniform(0.3, 6, count) * 30) / 30
    return segments_of(*zip(start, stop, strict=True), video=video)


def avt_labels(start: float, segments: Segments, protocol: Protocol) -> list[int]:
    """One window, as `base_video_dataset.py` goes about it."""
    fps, observed = 30.0, protocol.num_frames / protocol.rate
    end = max(start - protocol.gap_s, 0)
    begin = max(start - protocol.gap_s - observed, 0)
    wanted = round(protocol.num_frames * (fps / protocol.rate))
    skipped = max(int(fps * (end - begin)) - wanted, 0)
    stop = min(end, begin + (skipped + wanted) / fps)
    begin = min(begin + skipped / fps, stop)
    count = len(range(math.floor(begin * fps), math.floor(stop * fps)))
    seconds = torch.linspace(begin, stop, count)
    kept = seconds[list(range(count)[:: -max(round(fps / protocol.rate), 1)][::-1])]
    missing = max(protocol.num_frames - len(kept), 0)
    kept = torch.cat([kept[:1]] * missing + [kept])[-protocol.num_frames :]
    labels = []
    for now in kept.tolist():
        rows = np.flatnonzero((segments.start_s <= now) & (segments.stop_s >= now))
        if not len(rows):
            labels.append(UNLABELLED)
            continue
        half = (segments.stop_s[rows] - segments.start_s[rows]) / 2.0
        labels.append(int(segments.action[rows[np.argmin(np.abs(now - half))]]))
    return labels


def test_of_several_labels_ours_began_last() -> None:
    segments = segments_of((1.0, 4.0), (2.0, 3.0))
    frames = np.asarray([[29, 30, 59, 60, 89, 90, 119, 120]])
    labels = frame_labels(frames, np.asarray(["v"]), segments)
    assert labels.tolist() == [[UNLABELLED, 0, 0, 1, 1, 0, 0, UNLABELLED]]


@pytest.mark.parametrize("rate", [1.0, 2.0, 4.0, 20.0])
def test_avts_labels_are_those_of_its_rule(rate: float) -> None:
    protocol = Protocol(gap_s=0.5, num_frames=10, rate=rate, parity="avt")
    for seed in range(6):
        segments = random_segments("v", 40, seed)
        found = avt_frame_labels(segments.start_s, segments.video, segments, protocol)
        wanted = [avt_labels(float(s), segments, protocol) for s in segments.start_s]
        np.testing.assert_array_equal(found, wanted)


def test_avts_choice_is_not_ours() -> None:
    """At about 3 s, 0.5 s is nearer to half of the long one (5 s) than to half of the short one."""
    segments = segments_of((0.0, 10.0), (2.5, 3.5), (4.0, 5.0))
    protocol = Protocol(gap_s=1.0, num_frames=1, rate=1.0, parity="avt")
    start, video = np.asarray([4.0]), np.asarray(["v"])
    assert avt_frame_labels(start, video, segments, protocol).tolist() == [[0]]
    assert frame_labels(np.asarray([[90]]), video, segments).tolist() == [[1]]


def features() -> Features:
    return Features(rows=np.broadcast_to(np.float16(0), (400, 1)), fps=4.0, start_s=0.0, times=None)


def test_padding_counts_under_avt_alone() -> None:
    segments = segments_of((0.3, 0.4), (0.9, 9.0), (2.5, 3.0), (20.0, 22.0))
    own = Protocol(gap_s=0.5, num_frames=4, rate=1.0)
    avt = Protocol(gap_s=0.5, num_frames=4, rate=1.0, parity="avt")
    ours = WindowIndex.build({"v": features()}, segments, own)
    theirs = WindowIndex.build({"v": features()}, segments, avt)
    assert ours.labels.uid.tolist() == theirs.labels.uid.tolist() == ["v1", "v2", "v3"]
    assert ours.padded[1].tolist() == [True, True, False, False]
    assert ours.labels.frame_action[1].tolist() == [UNLABELLED, UNLABELLED, 1, 1]
    assert theirs.labels.frame_action[1].tolist() == [1, 1, 1, 1]
    assert (ours.masks_padding, theirs.masks_padding) == (True, False)
    two = join({"a": theirs, "b": theirs})
    np.testing.assert_array_equal(two["a"].labels.frame_action, theirs.labels.frame_action)
    assert not two["a"].masks_padding


def test_avt_forgets_the_segments_that_it_dropped() -> None:
    """The first one starts before there is a frame to see, and is under way until 9 s."""
    segments = segments_of((0.3, 9.0), (5.0, 6.0))
    for parity, wanted in (("exact", 0), ("avt", UNLABELLED)):
        protocol = Protocol(gap_s=0.5, num_frames=2, rate=1.0, parity=parity)
        index = WindowIndex.build({"v": features()}, segments, protocol)
        assert index.labels.frame_action.tolist() == [[wanted, wanted]]
