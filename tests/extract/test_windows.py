"""Rows at windows: there, and nowhere else, each from the clip that ends at its time."""

from __future__ import annotations

from bisect import bisect_right
from fractions import Fraction
from itertools import product
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from antcache.annotations import Segments, Taxonomy
from antcache.errors import AlreadyExists, BadConfig, FingerprintMismatch, MissingKey
from antcache.extract import ExtractConfig, check_settings, extract, find_videos, make_plan
from antcache.extract.own import try_own
from antcache.extract.rows import pixels as pixels_module
from antcache.store import Store

BITS = 10
LOSSLESS = {"codec": "ffv1", "pix_fmt": "bgr0"}


class Numbers:
    """Reads off the pictures of a clip which frames they are; each of its tokens is one."""

    fingerprint = "numbers 1"
    dim = 1

    def __init__(self, num_frames=1, clip_fps=None):
        self.num_frames, self.clip_fps = num_frames, clip_fps
        self.grid = (num_frames, 1, 1)
        self.rows = 0

    def preprocess(self, pictures):
        middles = ((torch.arange(BITS) + 0.5) * pictures.shape[2] / BITS).long()
        bits = pictures[:, :, middles].float().mean((1, 3)) > 127
        return (bits * 2.0 ** torch.arange(BITS)).sum(1)

    def __call__(self, pixels):
        return pixels[:, -1:]

    def tokens(self, pixels):
        self.rows += len(pixels)
        return pixels[..., None]


class Newest(Numbers):
    """A model that looks both ways: each of its tokens is the number of the newest frame."""

    def tokens(self, pixels):
        return super().tokens(pixels.max(1, keepdim=True).values.expand_as(pixels))


def segments(*rows):
    """Segments (video, start, stop), of one class."""
    videos, starts, stops = zip(*rows, strict=True)
    zeros = np.zeros(len(rows), np.int64)
    uid = [f"{video}_{start}_{stop}" for video, start, stop in rows]
    times = {"start_s": starts, "stop_s": stops}
    return Segments.of(uid=uid, video=videos, **times, verb=zeros, noun=zeros, action=zeros)


def write_labels(store, overwrite=False, **splits):
    taxonomy = Taxonomy(
        dataset="mine",
        verbs=("take",),
        nouns=("pan",),
        actions=("take pan",),
        action_verbs=(0,),
        action_nouns=(0,),
    )
    store.write_splits(splits, taxonomy, source="a test", overwrite=overwrite)


@pytest.fixture
def kitchen(tmp_path, video):
    """Videos a (2.4 s) and b (of a variable rate), and a store with labels of two splits."""
    folder = tmp_path / "v"
    folder.mkdir()
    numbers = np.random.default_rng(0)
    steps = np.cumsum([0, *numbers.integers(1, 300, 40)])
    times = {"a": video.steady(60), "b": [Fraction(int(t), 1000) for t in steps]}
    for name, own in times.items():
        video.write(folder / f"{name}.mkv", own, **LOSSLESS)
    store = Store.create(tmp_path / "s.zarr")
    train = [("a", 1.5, 2.0), ("a", 1.75, 2.1), ("a", 2.0, 2.3), ("a", 2.0, 2.4)]
    train += [("b", float(start), start + 1.0) for start in numbers.uniform(0.9, 5.0, 30)]
    splits = {"train": segments(*train), "validation": segments(("a", 2.2, 2.25))}
    write_labels(store, **splits)
    return SimpleNamespace(folder=folder, store=store, times=times, splits=splits)


def config_of(**settings):
    return ExtractConfig(**{"tokens": "full", "at": "windows", "stream": "t", **settings})


def run(kitchen, backbone, **settings):
    return extract(find_videos(kitchen.folder), kitchen.store, backbone, config_of(**settings))


def frame_at(times, seconds):
    """Number of the last frame at or before; the first, before it."""
    return max(0, bisect_right([float(t) for t in times], seconds + 1e-9) - 1)


def by_hand(kitchen, name, anchors, gaps):
    """Times of a video at which there is a row."""
    found = {
        round(float(start + anchor * (stop - start) - gap), 9)
        for split in kitchen.splits.values()
        for video, start, stop in zip(split.video, split.start_s, split.stop_s, strict=True)
        for anchor, gap in product(anchors, gaps)
        if video == name
    }
    own = kitchen.times[name]
    return sorted(t for t in found if float(own[0]) <= t <= float(own[-1]))


@pytest.mark.parametrize(
    ("num_frames", "clip_fps", "anchors", "gaps"),
    [
        (1, None, (), ()),
        (4, 8.0, (), (0.25, 0.75, 1.25)),
        (5, 7.5, (0.0, 0.5, 1.0), (0.5, 1.0)),
    ],
)
def test_rows_are_at_windows(kitchen, num_frames, clip_fps, anchors, gaps):
    """Every frame of every clip is the last at or before its own time; equal times are one row."""
    backbone = Numbers(num_frames, clip_fps)
    try_own(backbone)
    trial, backbone.rows = backbone.rows, 0
    report = run(kitchen, backbone, anchors=anchors, gaps=gaps, batch_size=3)
    assert report.written == ("a", "b")
    asked = {"anchors": anchors or (0.0,), "gaps": gaps or (1.0,)}
    stream = kitchen.store.stream("t")
    assert dict(stream.at) == {k: list(v) for k, v in asked.items()}
    assert stream.fps == (clip_fps or 1.0)
    total = 0
    for name, own in kitchen.times.items():
        features = kitchen.store.features("t", name)
        times = by_hand(kitchen, name, **asked)
        np.testing.assert_allclose(features.times, times, atol=1e-8)
        back = [k / (clip_fps or 1.0) for k in range(num_frames - 1, -1, -1)]
        frames = [[frame_at(own, t - b) for b in back] for t in times]
        assert features.read()[..., 0].astype(int).tolist() == frames
        assert not features.too_old(features.rows_at(times), np.array(times)).any()
        total += len(times)
    assert report.rows == total
    assert backbone.rows - trial == -(-total // 3) * 3  # the last batch is filled up
    windows = sum(map(len, kitchen.splits.values())) * len(asked["anchors"]) * len(asked["gaps"])
    assert total < windows


@pytest.mark.parametrize("at", ["windows", "uniform"])
@pytest.mark.parametrize("kind", [Numbers, Newest])
def test_no_frame_is_later_than_its_row(kitchen, at, kind):
    """Not in a clip, and so not in any token, whichever way the model looks."""
    more = {"gaps": (0.25, 0.5, 1.0), "anchors": (0.0, 0.3)} if at == "windows" else {"fps": 7.0}
    run(kitchen, kind(6, 9.0), at=at, **more)
    for name, own in kitchen.times.items():
        features = kitchen.store.features("t", name)
        newest = features.read()[..., 0].astype(int).max(1)
        assert len(newest) > 5
        for number, seconds in zip(newest, features.seconds, strict=True):
            assert float(own[number]) <= seconds + 1e-8
            assert number == frame_at(own, seconds)


def test_times_outside_of_a_video_have_no_row(kitchen, video):
    """Before the first frame nothing was seen, and nobody knows what comes after the last one."""
    times = [Fraction(1, 2) + t for t in video.steady(50)]
    video.write(kitchen.folder / "late.mkv", times, sound_s=2.5, **LOSSLESS)
    video.write(kitchen.folder / "short.mkv", [0], **LOSSLESS)
    late = [("late", start, start + 0.1) for start in (0.2, 1.1, 2.0, 3.2, 3.8)]
    write_labels(kitchen.store, more=segments(*late, ("short", 1.2, 1.3)))
    report = run(kitchen, Numbers(), splits=("more",))
    features = kitchen.store.features("t", "late")
    assert 0.3 < features.start_s < 0.7  # sound has a lead-in of its own
    np.testing.assert_allclose(features.times, [1.0, 2.2])
    about = kitchen.store.backend.open("features/t/late")[1]
    assert (about["times_too_early"], about["times_too_late"]) == (2, 1)
    assert kitchen.store.features("t", "short").num_rows == 0
    assert (report.written, report.unlabelled) == (("late", "short"), ("a", "b"))
    assert (report.rows, report.too_early, report.too_late) == (2, 2, 2)
    assert run(kitchen, Numbers(), splits=("more",)).skipped == ("late", "short")


def test_videos_and_splits_without_segments(kitchen, tmp_path, video):
    video.write(kitchen.folder / "c.mkv", video.steady(10), **LOSSLESS)
    videos = find_videos(kitchen.folder)
    plan = make_plan(videos, kitchen.store, Numbers(), config_of(splits=("validation",)))
    assert (list(plan.to_do), plan.rows, plan.unlabelled) == (["a"], {"a": 1}, ("b", "c"))
    assert plan.to_do["a"] == pytest.approx(2.4, abs=0.05)
    report = run(kitchen, Numbers(), splits=("validation",))
    assert (report.written, report.unlabelled) == (("a",), ("b", "c"))
    with pytest.raises(MissingKey, match="no split 'test'"):
        run(kitchen, Numbers(), splits=("test",))
    with pytest.raises(BadConfig, match=r"none of the videos has a labelled.*found c"):
        extract({"c": videos["c"]}, kitchen.store, Numbers(), config_of())
    bare = Store.create(tmp_path / "bare.zarr")
    for store in (None, bare):
        with pytest.raises(MissingKey, match=r"rows at windows need labels.*annotations import"):
            make_plan(videos, store, Numbers(), config_of())
    assert bare.streams() == []


def test_videos_that_can_not_be_read(kitchen, video):
    """Are listed, with the rows that they would have; those that nobody labelled are not asked."""
    for name in ("broken", "nameless"):
        (kitchen.folder / f"{name}.mp4").write_text("not a film")
    write_labels(kitchen.store, more=segments(("broken", 1.5, 2.0), ("broken", 0.5, 2.0)))
    report = run(kitchen, Numbers())
    assert (report.written, report.unlabelled) == (("a", "b"), ("nameless",))
    assert [failure.video for failure in report.failed] == ["broken"]
    assert (report.too_early, report.too_late) == (0, 0)  # of what is stored
    plan = make_plan(find_videos(kitchen.folder), kitchen.store, Numbers(), config_of())
    assert (plan.done, plan.to_do, plan.rows) == (("a", "b"), {"broken": None}, {"broken": 2})
    assert list(plan.failed_before) == ["broken"]
    video.write(kitchen.folder / "broken.mp4", video.steady(25))
    report = run(kitchen, Numbers())
    assert (report.written, report.skipped, report.failed) == (("broken",), ("a", "b"), ())
    assert (report.rows, report.too_early) == (1, 1)


def test_gaps_and_anchors_are_part_of_the_fingerprint(kitchen):
    run(kitchen, Numbers(), gaps=(1.0, 0.5))
    assert run(kitchen, Numbers(), gaps=(0.5, 1.0)).skipped == ("a", "b")  # in any order
    assert run(kitchen, Numbers(), gaps=(0.5, 1.0), fps=9.0).skipped == ("a", "b")  # no such rate
    for other in ({}, {"gaps": (0.5, 1.0), "anchors": (1.0,)}, {"at": "uniform"}):
        with pytest.raises(FingerprintMismatch, match="made with other settings"):
            run(kitchen, Numbers(), **other)


def test_labels_that_are_new_since(kitchen, monkeypatch):
    """A complete video has the rows of the labels then. Nothing is decoded, and it is named."""
    run(kitchen, Numbers())
    more = [("a", start, start + 0.1) for start in (1.6, 1.7, 2.0, 0.5)]  # one is there, one early
    write_labels(kitchen.store, more=segments(*more))
    videos = find_videos(kitchen.folder)
    plan = make_plan(videos, kitchen.store, Numbers(), config_of())
    assert (plan.done, plan.to_do, plan.outdated) == (("a", "b"), {}, {"a": 2})
    monkeypatch.setattr(pixels_module, "VideoReader", None)
    before = kitchen.store.features("t", "a").times.tolist()
    words = r"lack rows for labels that are new.*a \(2 rows\).*store remove \S+ features/t/a"
    with pytest.raises(AlreadyExists, match=words):
        run(kitchen, Numbers())
    assert run(kitchen, Numbers(), splits=("train", "validation")).skipped == ("a", "b")
    assert kitchen.store.features("t", "a").times.tolist() == before

    monkeypatch.undo()
    kitchen.store.remove("features/t/a")
    assert run(kitchen, Numbers()).written == ("a",)
    assert set(before) < set(kitchen.store.features("t", "a").times)
    assert make_plan(videos, kitchen.store, Numbers(), config_of()).outdated == {}


def test_labels_that_are_gone_since_leave_rows(kitchen):
    """Nobody asks for them any more; what is there is right."""
    run(kitchen, Numbers())
    write_labels(kitchen.store, overwrite=True, train=kitchen.splits["train"][2:])
    assert run(kitchen, Numbers()).skipped == ("a", "b")


@pytest.mark.parametrize("dtype", ["float16", "int8"])
def test_the_backend_does_not_matter(kitchen, tmp_path, dtype):
    other = Store.create(tmp_path / "s.h5")
    write_labels(other, **kitchen.splits)
    config = config_of(gaps=(0.25, 1.0), dtype=dtype)
    for store in (kitchen.store, other):
        extract(find_videos(kitchen.folder), store, Numbers(3, 8.0), config)
    for name in "ab":
        ours, theirs = (store.features("t", name) for store in (kitchen.store, other))
        np.testing.assert_array_equal(ours.times, theirs.times)
        np.testing.assert_array_equal(ours.read(), theirs.read())
        assert (ours.scale is None) == (dtype != "int8")


class Wild(Numbers):
    """Gives what no scale in float16 fits."""

    def tokens(self, pixels):
        return super().tokens(pixels) * 1e9


def test_what_int8_can_not_hold(kitchen):
    """The video, the longest comes first, is named, and nothing of it is stored."""
    with pytest.raises(BadConfig, match=r"b\.mkv: values too large for int8"):
        run(kitchen, Wild(), dtype="int8")
    assert kitchen.store.videos("t") == []


def test_progress_counts_the_rows(kitchen):
    calls = []
    config = config_of(gaps=(0.25, 1.0), batch_size=2)
    extract(
        find_videos(kitchen.folder), kitchen.store, Numbers(), config, lambda *c: calls.append(c)
    )
    rows = sum(kitchen.store.features("t", name).num_rows for name in "ab")
    assert [c for c in calls if c[0] == "rows"][-1] == ("rows", rows, rows)
    assert calls[-1] == ("videos", 2, 2)


def test_rows_of_a_list_without_labels(kitchen, video):
    """Those of a test list go into the stream beside those of the labels, in videos of its own."""
    video.write(kitchen.folder / "c.mkv", video.steady(60), **LOSSLESS)
    videos = find_videos(kitchen.folder)
    asked = segments(("c", 1.5, 2.0), ("c", 2.25, 2.3))
    report = run(kitchen, Numbers())
    assert report.unlabelled == ("c",)
    plan = make_plan(videos, kitchen.store, Numbers(), config_of(), asked)
    assert (plan.done, plan.rows, plan.outdated) == (("a", "b"), {"c": 2}, {})
    report = extract(videos, kitchen.store, Numbers(), config_of(), segments=asked)
    assert report.written == ("c",)
    features = kitchen.store.features("t", "c")
    np.testing.assert_allclose(features.times, [0.5, 1.25])
    assert features.read()[:, -1, 0].tolist() == [12, 31]
    assert run(kitchen, Numbers()).skipped == ("a", "b", "c")


def test_a_list_of_a_video_that_is_complete_is_no_silent_loss(kitchen):
    run(kitchen, Numbers())
    asked = segments(("a", 1.9, 2.0))
    with pytest.raises(AlreadyExists, match=r"lack rows.*a \(1 rows\)"):
        extract(find_videos(kitchen.folder), kitchen.store, Numbers(), config_of(), segments=asked)


@pytest.mark.parametrize("other", [{"at": "uniform"}, {"splits": ("train",)}])
def test_a_list_is_for_windows_and_in_place_of_splits(kitchen, other):
    asked = segments(("a", 1.9, 2.0))
    videos = find_videos(kitchen.folder)
    for call in (
        lambda config: extract(videos, kitchen.store, Numbers(), config, segments=asked),
        lambda config: make_plan(videos, None, Numbers(), config, asked),
        lambda config: check_settings(Numbers(), config, None, asked),
    ):
        with pytest.raises(BadConfig, match="a list of segments stands in for splits"):
            call(config_of(**other))
    assert kitchen.store.streams() == []


def test_a_list_needs_no_labels(kitchen, tmp_path):
    """The gap is the usual one where no dataset has another."""
    bare = Store.create(tmp_path / "bare.zarr")
    asked = segments(("a", 1.9, 2.0))
    extract(find_videos(kitchen.folder), bare, Numbers(), config_of(), segments=asked)
    np.testing.assert_allclose(bare.features("t", "a").times, [0.9])
