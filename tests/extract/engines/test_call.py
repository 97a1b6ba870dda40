"""One call makes one video's rows, in whatever process: those that a pass makes."""

from __future__ import annotations

import multiprocessing
import pickle

import numpy as np
import pytest
import torch

from antcache.annotations import Segments
from antcache.errors import BadConfig, UnreadableVideo, WriteFailed
from antcache.extract import (
    ExtractConfig,
    Ledger,
    extract,
    extract_video,
    find_videos,
    load_backbone,
)
from antcache.extract.plan import RowRecipe, WindowTimes
from antcache.extract.videos.film_frames import FilmFile
from antcache.extract.videos.source import VideoFacts
from antcache.store import Store


@pytest.fixture(scope="module")
def folder(tmp_path_factory, video):
    """Two videos of 2 and 3 seconds."""
    videos = tmp_path_factory.mktemp("videos")
    video.write(videos / "a.mp4", video.steady(50))
    video.write(videos / "b.mkv", video.steady(75))
    return videos


def called(arguments, options):
    torch.set_num_threads(1)
    return extract_video(*arguments, **options)


def test_a_call_in_another_process_makes_the_rows_of_a_pass(tmp_path, folder, vit, videomae):
    """To the bit, with what is known of the video; called again, it leaves them as they are."""
    path, models = tmp_path / "calls.zarr", {"rgb": vit, "clips": videomae}
    whole = Store.create(tmp_path / "whole.zarr")
    Store.create(path)
    asked = []
    for stream, model in models.items():
        config = ExtractConfig(stream=stream, dtype="float32", batch_size=5)
        extract(find_videos(folder), whole, load_backbone(model, device="cpu"), config)
        options = {"backbone": model, "config": config, "device": "cpu"}
        asked += [((folder / name, path), options) for name in ("a.mp4", "b.mkv", "a.mp4")]
    with multiprocessing.get_context("spawn").Pool(1) as others:
        made = others.starmap(called, asked)
    assert [done and done.rows for done in made] == [8, 12, None] * 2
    store = Store.open(path)
    for stream in models:
        assert store.stream(stream).fingerprint == whole.stream(stream).fingerprint
        for name in "ab":
            key = f"features/{stream}/{name}"
            np.testing.assert_array_equal(
                store.features(stream, name).read(), whole.features(stream, name).read()
            )
            assert store.backend.open(key)[1] == whole.backend.open(key)[1]


def test_the_recipe_of_pixels_needs_no_model(folder, vit, videomae):
    """It comes back from a pickle as it was, and makes the same of a video, facts at last."""
    for model in (vit, videomae):
        backbone = load_backbone(model, device="cpu")
        recipe = RowRecipe.of(backbone, ExtractConfig(batch_size=3)).pixels
        text = pickle.dumps(recipe)
        assert len(text) < 2000
        source = FilmFile(folder / "b.mkv")
        ours, theirs = ([*each.pixels(source)] for each in (recipe, pickle.loads(text)))
        assert [len(batch) for batch in ours[:-1]] == [3, 3, 3, 3]
        assert all(map(torch.equal, ours[:-1], theirs[:-1]))
        assert ours[-1] == theirs[-1]
        assert isinstance(ours[-1], VideoFacts)
        assert ours[-1].num_frames == 75
        # Whole levels cross in a quarter of the bytes, and are the same pixels afterwards.
        assert ours[0].dtype == torch.uint8
        pictures = torch.randint(0, 256, (2, 48, 80, 3), dtype=torch.uint8)
        pixels = backbone.finish(backbone.prepare(pictures))
        assert torch.equal(pixels, backbone.preprocess(pictures))


def test_a_call_at_windows(tmp_path, folder, vit):
    """Rows are where it is told, and a video of which nothing is wanted is refused."""
    store = Store.create(tmp_path / "s.zarr")
    config = ExtractConfig(tokens=(1, 1, 1), at="windows", gaps=(0.5,))
    listed = Segments(
        uid=np.array(["0", "1"]),
        video=np.array(["b", "b"]),
        start_s=np.array([1.0, 9.0]),
        stop_s=np.array([2.0, 10.0]),
        **{part: np.zeros(2, np.int64) for part in ("verb", "noun", "action")},
    )
    windows = WindowTimes.of(store, config, listed)
    options = {"backbone": vit, "config": config, "device": "cpu", "windows": windows}
    done = extract_video(folder / "b.mkv", store.path, **options)
    assert (done.rows, done.too_early, done.too_late) == (1, 0, 1)
    assert store.features("rgb", "b").seconds.tolist() == [0.5]
    with pytest.raises(BadConfig, match="a: no labelled segment in this video"):
        extract_video(folder / "a.mp4", store.path, **options)


def test_what_a_call_cannot_do(tmp_path, folder, vit):
    """It says so to whoever called; the ledger is theirs."""
    store = Store.create(tmp_path / "s.zarr")
    bad = tmp_path / "bad.mp4"
    bad.write_text("no film")
    options = {"backbone": load_backbone(vit, device="cpu")}
    with pytest.raises(UnreadableVideo, match=r"bad\.mp4: not a video") as raised:
        extract_video(bad, store.path, **options)
    again = pickle.loads(pickle.dumps(raised.value))
    assert (type(again), str(again)) == (UnreadableVideo, str(raised.value))
    assert Ledger(store.path).read() == []
    claimed = store.claim_features("rgb", "c")
    with claimed, pytest.raises(WriteFailed, match=r"features/rgb/c: another process is writing"):
        extract_video(folder / "a.mp4", store.path, name="c", **options)
    assert extract_video(folder / "a.mp4", store.path, name="c", **options).rows == 8
