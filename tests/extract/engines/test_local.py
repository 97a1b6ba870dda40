"""Several decoders, one backbone: rows as of one decoder, bounded waiting, nothing left over."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from contextlib import ExitStack
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from antcache.errors import AlreadyExists, BadConfig
from antcache.extract import ExtractConfig, extract, extract_video, find_videos, load_backbone
from antcache.extract import run as run_module
from antcache.extract.engines import decoders as decoders_module
from antcache.extract.engines import local as local_module
from antcache.extract.engines.decoders import Decoders
from antcache.extract.engines.feed import Closed, Feed
from antcache.extract.engines.video import RowMaker
from antcache.extract.preprocess import Preprocessing
from antcache.extract.run import longest_first
from antcache.extract.videos.source import VideoFacts
from antcache.store import Store

LENGTHS = {"a": 90, "b": 7, "c": 41, "d": 120, "e": 1, "f": 33}
"""Frames, at 25 per second."""


class Cells:
    """Mean colours of cells, and what a product of few rows comes to."""

    dim, num_frames, clip_fps, fingerprint = 48, 3, 8.0, "cells"

    def __init__(self) -> None:
        self.weight = torch.rand(3 * 3 * 16, 48, generator=torch.Generator().manual_seed(0))
        self.threads: set[int] = set()
        self.seen = 0

    def preprocess(self, pictures):
        self.threads.add(threading.get_ident())
        self.seen += 1
        return F.adaptive_avg_pool2d(pictures.permute(0, 3, 1, 2) / 255, 4)

    def __call__(self, pixels):
        return pixels.flatten(1) @ self.weight


@pytest.fixture(scope="module")
def folder(tmp_path_factory, video):
    """Six videos of two shapes, of which `c` breaks off after some rows, and one that is none."""
    videos = tmp_path_factory.mktemp("videos")
    for name, frames in LENGTHS.items():
        times = video.steady(frames)
        if name == "c":
            times = [*times, times[-1] + 5]
        size = (64, 48) if name == "d" else (48, 80)
        video.write(videos / f"{name}.mp4", times, codec="mpeg4", size=size)
    (videos / "g.mp4").write_text("no film")
    return videos


@pytest.fixture(scope="module")
def convnet(tmp_path_factory, models):
    """A small ConvNet, in which a batch of few rows takes another way than one of many."""
    from transformers import ResNetConfig, ResNetModel

    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = ResNetModel(
            ResNetConfig(embedding_size=16, hidden_sizes=[16, 32, 64, 64], depths=[1, 1, 1, 1])
        )
    return models.save(tmp_path_factory.mktemp("models") / "resnet", model)


def rows_in(frames):
    """At 8 per second, of frames at 25."""
    return (frames - 1) * 8 // 25 + 1


def rows_of(store):
    return {name: store.features("rgb", name).read() for name in store.videos("rgb")}


@pytest.mark.parametrize("kind", ["vit", "videomae", "convnet", "own"])
def test_rows_are_those_of_one_decoder(tmp_path, folder, request, kind):
    """To the bit, whatever shares a batch, whoever runs it; what fails, fails alone."""
    own = Cells()
    given = own if kind == "own" else load_backbone(request.getfixturevalue(kind), device="cpu")
    found = find_videos(folder)
    config = {"fps": 8.0, "dtype": "float32", "batch_size": 8}
    kept, attributes = [], []
    for count in (1, 2, 5):
        store = Store.create(tmp_path / f"{count}.zarr")
        report = extract(found, store, given, ExtractConfig(**config, decoders=count))
        assert report.written == ("a", "b", "d", "e", "f")
        assert sorted(f.video for f in report.failed) == ["c", "g"]
        assert "no intact frame for too long" in {f.video: f for f in report.failed}["c"].error
        assert report.rows == sum(rows_in(LENGTHS[name]) for name in report.written)
        assert sum(report.shares.values()) == pytest.approx(1)
        assert report.limit in report.shares
        kept.append(rows_of(store))
        attributes.append(store.backend.open("features/rgb/d")[1])
    for others in kept[1:]:
        for name, rows in kept[0].items():
            np.testing.assert_array_equal(others[name], rows, err_msg=name)
    assert attributes[0] == attributes[1] == attributes[2]
    alone = Store.create(tmp_path / "alone.zarr")
    for name in ("f", "e"):
        extract_video(found[name], alone.path, backbone=given, config=ExtractConfig(**config))
        np.testing.assert_array_equal(alone.features("rgb", name).read(), kept[0][name])
    if kind == "own":  # its code is called by the thread that called us, as one picture each
        assert own.threads == {threading.get_ident()}


def test_videos_share_batches(tmp_path, folder, vit, monkeypatch):
    """Short videos leave no batch half empty; a video that failed takes its clips with it."""
    sizes, made = [], RowMaker.made

    def watched(self, pixels):
        sizes.append(len(pixels))
        return made(self, pixels)

    monkeypatch.setattr(RowMaker, "made", watched)
    config = ExtractConfig(fps=8.0, batch_size=6, decoders=3)
    files = {name: path for name, path in find_videos(folder).items() if name not in "cg"}
    store = Store.create(tmp_path / "s.zarr")
    report = extract(files, store, load_backbone(vit, device="cpu"), config)
    assert sizes == [6] * (report.rows // 6) + [report.rows % 6]


@pytest.mark.parametrize("kind", ["vit", "own"])
def test_few_pictures_wait_however_long_a_video_is(tmp_path, video, vit, monkeypatch, kind):
    """Decoders stop when so many bytes wait for the backbone."""
    (tmp_path / "v").mkdir()
    for name in "ab":
        video.write(tmp_path / "v" / f"{name}.mp4", video.steady(300), codec="mpeg4")
    one = 48 * 80 * 3 if kind == "own" else 32 * 32 * 3
    waiting, put = [], Feed.put

    def watched(self, item, size=0):
        waited = put(self, item, size)
        waiting.append(self._bytes)
        return waited

    made = RowMaker.made

    def slow(self, pixels):  # until decoders stand still
        deadline = time.monotonic() + 60
        while max(waiting) < 5 * one and time.monotonic() < deadline:
            time.sleep(0.01)
        return made(self, pixels)

    monkeypatch.setattr(RowMaker, "made", slow)
    monkeypatch.setattr(Feed, "put", watched)
    monkeypatch.setattr(decoders_module, "MOST_BYTES", 5 * one)
    own = Cells()
    own.num_frames, own.weight = 1, own.weight[:48]
    given = own if kind == "own" else load_backbone(vit, device="cpu")
    config = ExtractConfig(fps=25.0, batch_size=4, decoders=2)
    report = extract(find_videos(tmp_path / "v"), Store.create(tmp_path / "s.zarr"), given, config)
    assert report.rows == 600
    assert max(waiting) == 5 * one


def test_a_feed_is_bounded_and_lets_go():
    feed = Feed(100)
    feed.put("large", 1000)  # one always fits
    feed.put("of no size")
    others = [threading.Thread(target=feed.put, args=(name, 60)) for name in "xy"]
    for thread in others:
        thread.start()
    assert [feed.get(), feed.get()] == ["large", "of no size"]
    assert {feed.get(), feed.get()} == {"x", "y"}
    feed.put("left", 60)
    refused = []

    def put():
        try:
            feed.put("late", 60)
        except Closed as error:
            refused.append(error)

    thread = threading.Thread(target=put)
    thread.start()
    left = feed.close()
    thread.join()
    assert left[0] == "left"
    assert len(refused) + len(left) == 2
    with pytest.raises(Closed):
        feed.put("none")


def test_what_is_used_at_once_always_fits():
    feed = Feed(100, at_once=3)
    for item in "abc":
        feed.put(item, 80)
    thread = threading.Thread(target=feed.put, args=("d", 80))
    thread.start()
    thread.join(0.05)
    assert thread.is_alive()
    assert feed.get() == "a"
    thread.join()
    assert [feed.get() for _ in "bcd"] == [*"bcd"]


# In a process of its own, whose memory nothing else has been in. The backbone begins when decoders
# stand still, or are done. The first pass is not counted.
GROWTH = """
import sys, time
from pathlib import Path
from antcache.extract import ExtractConfig, extract
from antcache.extract.engines import decoders
from antcache.store import Store

feeds = []
class Feed(decoders.Feed):
    def __init__(self, *bounds):
        super().__init__(*bounds)
        feeds.append(self)
decoders.Feed = Feed

class Late:
    dim, num_frames, clip_fps, fingerprint = 1, 1, None, "late"
    def preprocess(self, pictures):
        return pictures[:, :1, :1, :1].float()
    def __call__(self, pixels):
        before = -1
        while feeds and before != (before := feeds[-1]._bytes):
            time.sleep(0.05)
        return pixels.reshape(len(pixels), 1)

def status(name):
    lines = dict(line.split(":", 1) for line in open("/proc/self/status"))
    return int(lines[name].split()[0]) * 1024

folder, peaks = Path(sys.argv[1]), []
for name in ("short", "short", "long"):
    store = Store.create(folder / f"{len(peaks)}.zarr")
    config = ExtractConfig(fps=25.0, decoders=2, batch_size=512)
    before = status("VmRSS")
    Path("/proc/self/clear_refs").write_text("5")
    videos = {path.stem: path for path in (folder / name).iterdir()}
    extract(videos, store, Late(), config)
    peaks.append(status("VmHWM") - before)
print(*peaks[1:])
"""


@pytest.mark.skipif(not Path("/proc/self/clear_refs").is_file(), reason="no peak can be cleared")
def test_memory_does_not_grow_with_the_length_of_videos(tmp_path, video):
    """Although decoders are far ahead of the backbone."""
    for name, frames in (("short", 250), ("long", 800)):
        (tmp_path / name).mkdir()
        for each in "ab":
            path = tmp_path / name / f"{each}.mp4"
            video.write(path, video.steady(frames), codec="mpeg4", size=(320, 240))
    done = subprocess.run(
        [sys.executable, "-c", GROWTH, str(tmp_path)], capture_output=True, text=True, check=True
    )
    short, long = map(int, done.stdout.split())
    assert long < short + 64e6, (short, long)


@pytest.mark.parametrize(
    "error", [KeyboardInterrupt, MemoryError, BadConfig("float16 can't hold it")]
)
@pytest.mark.parametrize("where", ["backbone", "decoder"])
def test_whatever_ends_a_pass_leaves_nothing_behind(
    tmp_path, folder, vit, monkeypatch, error, where
):
    """No thread, no claim, no half of a video; and the next pass does it all."""
    owner, name = (RowMaker, "made") if where == "backbone" else (Preprocessing, "levels")
    original, calls = getattr(owner, name), []

    def failing(self, given):
        calls.append(given)
        if len(calls) == 6:
            raise error
        return original(self, given)

    monkeypatch.setattr(owner, name, failing)
    store, found = Store.create(tmp_path / "s.zarr"), find_videos(folder)
    before = set(threading.enumerate()), torch.get_num_threads()
    config = ExtractConfig(fps=8.0, batch_size=4, decoders=3)
    backbone = load_backbone(vit, device="cpu")
    kind = error if isinstance(error, type) else type(error)
    with pytest.raises(kind):
        extract(found, store, backbone, config)
    assert (set(threading.enumerate()), torch.get_num_threads()) == before
    for video in LENGTHS:
        with store.claim_features("rgb", video) as ours:
            assert ours
    monkeypatch.undo()
    done = extract(found, store, backbone, config)
    assert set(done.written) | set(done.skipped) == {*"abdef"}


def test_a_video_that_somebody_else_wrote_takes_nothing_with_it(tmp_path, folder, vit, monkeypatch):
    """Although its rows shared batches; its rows are not counted."""
    original = Store.write_features

    def raced(self, stream, video, rows, **options):
        original(self, stream, video, rows, **options)
        if video == "a":
            raise AlreadyExists("already in the store", where=video)

    monkeypatch.setattr(Store, "write_features", raced)
    store = Store.create(tmp_path / "s.zarr")
    config = ExtractConfig(fps=8.0, batch_size=6, decoders=3)
    report = extract(find_videos(folder), store, load_backbone(vit, device="cpu"), config)
    assert (report.written, report.skipped) == (("b", "d", "e", "f"), ("a",))
    assert report.rows == sum(rows_in(LENGTHS[name]) for name in report.written)


class Endless:
    """A source whose frames never end, and of which hardly any is wanted."""

    path = "endless"

    def __init__(self) -> None:
        self.facts, self.taken, self.under_way = VideoFacts(), 0, threading.Event()

    def frames(self, **_):
        return self

    def duration_s(self):
        return None

    def __iter__(self):
        while True:
            self.taken += 1
            if self.taken == 1000:
                self.under_way.set()
            yield Fraction(self.taken, 1000), self.taken

    def picture(self, frame):
        return np.zeros((48, 80, 3), np.uint8)


def test_a_decoder_ends_in_the_middle_of_a_video(vit):
    """Even if no row comes for hours."""
    source = Endless()
    recipe = run_module.RowRecipe.of(load_backbone(vit, device="cpu"), ExtractConfig(fps=0.01))
    turns = ((name, ExitStack()) for name in ["endless"])
    decoders = Decoders(1, recipe.pixels, lambda name: (source, None), lambda _: turns, cores=1)
    with decoders:
        assert source.under_way.wait(60)
    assert not [t for t in threading.enumerate() if t.name.startswith("antcache-decoder")]


def test_the_longest_come_first_and_those_of_any_length_before_them():
    lengths = {"a": 3.0, "b": None, "c": 7.5, "d": 3.0, "e": 0.0}
    assert longest_first(lengths) == ["b", "e", "c", "a", "d"]


@pytest.mark.parametrize(
    ("asked", "cores", "expected"),
    [(None, 8, 5), (None, 3, 2), (None, 1, 1), (2, 8, 2), (99, 1, 5)],
)
def test_how_many_decoders(tmp_path, folder, vit, monkeypatch, asked, cores, expected):
    """One per core but one, and no more than there are videos to do."""
    counts = []

    class Watched(Decoders):
        def __init__(self, count, *rest, **options):
            counts.append((count, options["cores"]))
            super().__init__(count, *rest, **options)

    monkeypatch.setattr(local_module, "Decoders", Watched)
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: range(cores), raising=False)
    files = {name: folder / f"{name}.mp4" for name in "abdef"}
    config = ExtractConfig(fps=1.0, decoders=asked)
    store = Store.create(tmp_path / "s.zarr")
    extract(files, store, load_backbone(vit, device="cpu"), config)
    assert counts == [(expected, cores)]


@pytest.mark.parametrize("engine", ["pass", "call"])
def test_what_no_row_needs_is_not_decoded(tmp_path, video, engine):
    path = video.write(tmp_path / "v.mp4", video.steady(75), b_frames=2)
    store, config = Store.create(tmp_path / "s.zarr"), ExtractConfig(fps=1.0, dtype="float32")
    if engine == "pass":
        extract({"v": path}, store, Cells(), config)
    else:
        extract_video(path, store.path, backbone=Cells(), config=config)
    attributes = store.backend.open("features/rgb/v")[1]
    assert attributes["frames"] == 75
    assert attributes["frames_not_needed"] > 20
