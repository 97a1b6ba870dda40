from __future__ import annotations

import dataclasses
import json
import os
import signal
import subprocess
import sys
import threading
import time
from fractions import Fraction

import numpy as np
import pytest
import torch

from antcache.errors import AlreadyExists, BadConfig, FingerprintMismatch
from antcache.extract import ExtractConfig, Ledger, extract, find_videos, load_backbone, make_plan
from antcache.extract.backbone import Backbone
from antcache.extract.preprocess import CONVENTION
from antcache.extract.rows import pixels as pixels_module
from antcache.store import Store


@pytest.fixture(scope="module")
def backbone(vit):
    return load_backbone(vit, device="cpu")


@pytest.fixture(scope="module")
def clip_backbone(videomae):
    return load_backbone(videomae, device="cpu")


@pytest.fixture
def folder(tmp_path, video):
    """Two videos of 2 and 3 seconds, one of them in a subfolder."""
    videos = tmp_path / "videos"
    (videos / "more").mkdir(parents=True)
    video.write(videos / "a.mp4", video.steady(50))
    video.write(videos / "more" / "b.MKV", video.steady(75))
    (videos / "notes.txt").write_text("no video")
    (videos / "._a.mp4").write_text("left behind by a file manager")
    return videos


def make_store(tmp_path, name="s.zarr"):
    return Store.create(tmp_path / name)


def test_rows_are_features_of_the_pictures(tmp_path, video, folder, backbone):
    """Each row equals the backbone applied to the frame that must be seen at its time."""
    store = make_store(tmp_path)
    calls = []
    report = extract(
        find_videos(folder),
        store,
        backbone,
        ExtractConfig(dtype="float32", batch_size=3),
        progress=lambda *call: calls.append(call),
    )
    assert report.written == ("a", "b")
    assert (report.rows, report.skipped, report.failed) == (8 + 12, (), ())
    assert store.videos("rgb") == ["a", "b"]
    assert calls[-1] == ("videos", 2, 2)
    assert [c for c in calls if c[0] == "rows"][-1] == ("rows", 20, 20)

    features = store.features("rgb", "b")
    assert (features.fps, features.start_s, features.times) == (4.0, 0.0, None)
    shown = [int(Fraction(row, 4) * 25) for row in range(12)]  # frames 0, 6, 12, 18, ...
    frames = np.stack([video.barcode(n, 48, 80) for n in shown])
    expected = backbone(backbone.preprocessing(torch.from_numpy(frames))[:, None])
    rows = features.read()
    assert rows.dtype == np.float32
    np.testing.assert_allclose(rows, expected, atol=0.05)  # the codec is not lossless
    nearest = np.linalg.norm(rows[:, None] - expected.numpy()[None], axis=2).argmin(1)
    assert nearest.tolist() == list(range(12))

    stream = store.stream("rgb")
    assert (stream.dim, stream.fps, stream.dtype) == (32, 4.0, "float32")
    assert stream.source == backbone.name
    assert set(stream.config) == {
        *("family", "model", "weights", "pooling", "preprocessing", "clip", "decoding")
    }
    assert stream.config["clip"] is None


def test_pictures_are_seen_in_their_own_shape(tmp_path, video, models, small):
    """By SigLIP 2, in videos of several shapes."""
    from transformers import Siglip2VisionConfig, Siglip2VisionModel

    settings = {k: v for k, v in small.items() if k != "image_size"}
    config = Siglip2VisionConfig(**settings, patch_size=8, num_patches=16)
    processor = {"patch_size": 8, "max_num_patches": 18}
    folder = models.save(tmp_path / "model", Siglip2VisionModel(config), processor)
    backbone = load_backbone(folder, device="cpu")
    (tmp_path / "v").mkdir()
    lossless = {"codec": "ffv1", "pix_fmt": "bgr0"}
    shapes = {"tall": (80, 48), "wide": (48, 80)}
    for name, size in shapes.items():
        video.write(tmp_path / "v" / f"{name}.mkv", video.steady(25), size=size, **lossless)
    store = make_store(tmp_path)
    extract(find_videos(tmp_path / "v"), store, backbone, ExtractConfig(dtype="float32"))
    for name, size in shapes.items():
        frames = np.stack([video.barcode(int(row * 25 / 4), *size) for row in range(4)])
        pixels = backbone.preprocess(torch.from_numpy(frames))
        assert pixels.shape[2:] == ((40, 24) if name == "tall" else (24, 40))
        rows = store.features("rgb", name).read()
        np.testing.assert_allclose(rows, backbone(pixels[:, None]), atol=1e-5)


def test_by_default_a_batch_is_of_32_frames(tmp_path, folder, backbone, clip_backbone, monkeypatch):
    """Single ones, or those of 8 clips of 4; what is left over is filled up."""
    seen, call = [], Backbone.__call__

    def watch(self, pixels):
        seen.append(tuple(pixels.shape[:2]))
        return call(self, pixels)

    monkeypatch.setattr(Backbone, "__call__", watch)
    store = make_store(tmp_path)
    extract({"a": folder / "a.mp4"}, store, backbone, ExtractConfig(fps=25.0))
    assert seen == [(32, 1), (32, 1)]
    seen.clear()
    config = ExtractConfig(stream="clips")
    extract({"b": folder / "more" / "b.MKV"}, store, clip_backbone, config)
    assert seen == [(8, 4), (8, 4)]


def test_batch_size_and_backend_do_not_matter(tmp_path, folder, backbone):
    stores = {}
    for name, size in (("a.zarr", None), ("b.zarr", 1), ("c.h5", 5)):
        stores[name] = make_store(tmp_path, name)
        config = ExtractConfig(batch_size=size, dtype="float32")
        extract(find_videos(folder), stores[name], backbone, config)
    for other in ("b.zarr", "c.h5"):
        for video in ("a", "b"):
            np.testing.assert_allclose(
                stores["a.zarr"].features("rgb", video).read(),
                stores[other].features("rgb", video).read(),
                atol=1e-5,
            )


@pytest.mark.parametrize("clip_fps", [8.0, 1.0, 7.5])
def test_clips_end_at_their_rows(tmp_path, video, clip_backbone, clip_fps):
    """Rows of a clip model equal the model applied to the right frames, repeated at the start."""
    times = video.steady(60)
    (tmp_path / "v").mkdir()
    video.write(tmp_path / "v" / "a.mkv", times, codec="ffv1", pix_fmt="bgr0")
    store = make_store(tmp_path)
    config = ExtractConfig(clip_fps=clip_fps, dtype="float32", batch_size=3)
    extract(find_videos(tmp_path / "v"), store, clip_backbone, config)
    rows = store.features("rgb", "a").read()
    assert len(rows) == 10
    assert store.stream("rgb").config["clip"] == {"frames": 4, "fps": clip_fps}
    for row, features in enumerate(rows):
        seen = [Fraction(row, 4) - Fraction(k) / Fraction(clip_fps) for k in (3, 2, 1, 0)]
        numbers = [max(0, int(t * 25 // 1)) for t in seen]
        pictures = np.stack([video.barcode(n, 48, 80) for n in numbers])
        pixels = clip_backbone.preprocessing(torch.from_numpy(pictures))
        expected = clip_backbone(pixels[None])[0]
        np.testing.assert_allclose(features, expected, atol=1e-5)


@pytest.mark.parametrize("kind", ["backbone", "clip_backbone"])
def test_rows_do_not_see_the_future(tmp_path, video, request, kind):
    """Two videos that agree for one second agree in the rows of that second, and then differ."""
    (tmp_path / "v").mkdir()
    shift = {"a": 0, "b": 300}
    for name, later in shift.items():
        video.write(
            tmp_path / "v" / f"{name}.mkv",
            video.steady(50),
            codec="ffv1",
            pix_fmt="bgr0",
            picture=lambda n, h, w, later=later: video.barcode(n if n < 25 else n + later, h, w),
        )
    store = make_store(tmp_path)
    backbone = request.getfixturevalue(kind)
    extract(find_videos(tmp_path / "v"), store, backbone, ExtractConfig(dtype="float32"))
    a, b = (store.features("rgb", name).read() for name in shift)
    np.testing.assert_array_equal(a[:4], b[:4])
    assert (np.abs(a[4:] - b[4:]).max(1) > 1e-3).all()


def test_rotation_reaches_the_features(tmp_path, video, backbone):
    (tmp_path / "v").mkdir()
    for name, rotation in (("a", None), ("b", 180)):
        video.write(tmp_path / "v" / f"{name}.mp4", [0], rotation=rotation)
    store = make_store(tmp_path)
    extract(find_videos(tmp_path / "v"), store, backbone, ExtractConfig(dtype="float32"))
    pictures = video.barcode(0, 48, 80)[None], video.barcode(0, 48, 80)[None, ::-1, ::-1].copy()
    for name, picture in zip("ab", pictures, strict=True):
        expected = backbone(backbone.preprocessing(torch.from_numpy(picture))[:, None])
        np.testing.assert_allclose(store.features("rgb", name).read(), expected, atol=0.05)


def test_failures_go_to_the_ledger_and_the_rest_goes_on(tmp_path, video, folder, backbone):
    bad = folder / "aa.mp4"
    bad.write_text("not a film")
    store = make_store(tmp_path)
    report = extract(find_videos(folder), store, backbone)
    assert report.written == ("a", "b")
    assert [f.video for f in report.failed] == ["aa"]
    assert store.videos("rgb") == ["a", "b"]
    entry = json.loads((tmp_path / "s.zarr.failures.jsonl").read_text())
    assert entry["video"] == "aa"
    assert entry["file"] == str(bad)
    assert "not a video that can be opened" in entry["error"]

    plan = make_plan(find_videos(folder), store, backbone, ExtractConfig())
    assert plan.done == ("a", "b")
    assert plan.to_do == {"aa": None}
    assert plan.failed_before == {"aa": entry["error"]}

    video.write(bad, video.steady(10))  # repaired: done now, and out of the ledger
    report = extract(find_videos(folder), store, backbone)
    assert (report.written, report.skipped) == (("aa",), ("a", "b"))
    assert not Ledger(store.path).path.exists()


def test_other_settings_are_refused_before_decoding(tmp_path, folder, backbone, monkeypatch):
    store = make_store(tmp_path)
    files = find_videos(folder)
    extract({"a": files["a"]}, store, backbone)
    monkeypatch.setattr(pixels_module, "VideoSampler", None)
    for config in (ExtractConfig(fps=5.0), ExtractConfig(dtype="float32")):
        with pytest.raises(FingerprintMismatch, match="made with other settings"):
            extract(files, store, backbone, config)
        with pytest.raises(FingerprintMismatch, match="made with other settings"):
            make_plan(files, store, backbone, config)
    assert store.videos("rgb") == ["a"]
    assert len(extract({"a": files["a"]}, store, backbone).skipped) == 1


def test_rows_of_other_rules_of_preprocessing_are_never_beside_ours(
    tmp_path, folder, backbone, monkeypatch
):
    """A stream of before, whose halves were rounded to the even level, said no version."""
    before = dict(backbone.config["preprocessing"])
    assert before.pop("convention") == CONVENTION
    old = dataclasses.replace(backbone, config={**backbone.config, "preprocessing": before})
    store, files = make_store(tmp_path), find_videos(folder)
    extract({"a": files["a"]}, store, old)
    monkeypatch.setattr(pixels_module, "VideoSampler", None)
    with pytest.raises(FingerprintMismatch, match=rf"other settings.*convention.*{CONVENTION}"):
        extract(files, store, backbone)
    assert store.videos("rgb") == ["a"]


def test_another_process_was_faster(tmp_path, folder, backbone, monkeypatch, caplog):
    store = make_store(tmp_path)
    original = Store.write_features

    def raced(self, stream, video, rows, **options):
        if video == "a":
            original(self, stream, video, rows, **options)
            raise AlreadyExists("already in the store", where=video)
        original(self, stream, video, rows, **options)

    monkeypatch.setattr(Store, "write_features", raced)
    report = extract(find_videos(folder), store, backbone)
    assert (report.written, report.skipped, report.failed) == (("b",), ("a",), ())
    assert "another process wrote it" in caplog.text


def test_other_errors_end_the_pass(tmp_path, folder, backbone, monkeypatch):
    """A full disk is no reason to go on, nor to blame the video."""

    def full(*args, **kwargs):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Store, "write_features", full)
    store = make_store(tmp_path)
    with pytest.raises(OSError, match="No space left"):
        extract(find_videos(folder), store, backbone)
    assert not Ledger(store.path).path.exists()


def test_features_that_do_not_fit(tmp_path, folder, backbone, monkeypatch):
    original = type(backbone).__call__
    monkeypatch.setattr(type(backbone), "__call__", lambda s, p: original(s, p) * 1e6)
    store = make_store(tmp_path)
    threads = threading.active_count()
    with pytest.raises(BadConfig, match=r"float16 can't hold.*--dtype float32"):
        extract(find_videos(folder), store, backbone)
    assert threading.active_count() == threads  # decoding has ended, too
    assert store.videos("rgb") == []
    extract(find_videos(folder), store, backbone, ExtractConfig(dtype="float32", stream="wide"))
    assert store.videos("wide") == ["a", "b"]


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("fps", 0.0, r"^impossible fps: expected from 0\.01 to 1000, found 0\.0"),
        ("fps", float("nan"), "^impossible fps: .*found nan"),
        ("clip_fps", -1.0, r"^impossible clip_fps: .*found -1\.0"),
        ("clip_fps", "4", "^clip_fps: wrong type: expected float or None, found '4'"),
        ("dtype", "float64", "^unknown dtype: expected float16 or float32 or int8, found float64"),
        ("batch_size", 0, "^impossible batch_size: expected from 1 to 1000000, found 0"),
        ("stream", "../rgb", r"not a name for a stream: .*found '\.\./rgb'"),
        ("max_gap_s", 0.0, r"^impossible max_gap_s: expected above 0 .*found 0\.0"),
    ],
)
def test_bad_settings(name, value, words):
    with pytest.raises(BadConfig, match=words):
        ExtractConfig(**{name: value})


def test_clip_rate_for_single_frames_is_refused(tmp_path, folder, backbone):
    with pytest.raises(BadConfig, match="`clip_fps` is for backbones that see clips"):
        extract(find_videos(folder), make_store(tmp_path), backbone, ExtractConfig(clip_fps=8))


def test_interrupt_leaves_a_resumable_store(tmp_path, video, vit, backbone):
    """A real Ctrl-C on a real process: exit code 130, no half videos; the rest is done later."""
    (tmp_path / "v").mkdir()
    for i in range(30):
        video.write(tmp_path / "v" / f"v{i:02}.mp4", video.steady(100), codec="mpeg4")
    path = tmp_path / "s.zarr"
    arguments = ["extract", str(tmp_path / "v"), str(path), "--backbone", str(vit), "--fps", "25"]
    process = subprocess.Popen(
        [sys.executable, "-m", "antcache", *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    try:
        deadline = time.monotonic() + 60
        while not (path / "features" / "rgb" / "v01").exists():
            assert process.poll() is None, process.communicate()
            assert time.monotonic() < deadline
            time.sleep(0.01)
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=30)
    finally:
        process.kill()
    assert process.returncode == 130, errors
    assert "interrupted" in errors
    assert "Traceback" not in errors

    store = Store.open(path)
    done = store.videos("rgb")
    assert 2 <= len(done) < 30
    assert not (path / ".staging").exists()
    for name in done:
        assert store.features("rgb", name).num_rows == 100
    few = dict(list(find_videos(tmp_path / "v").items())[: len(done) + 1])
    report = extract(few, store, backbone, ExtractConfig(fps=25))
    assert report.skipped == tuple(done)
    assert len(report.written) == 1
