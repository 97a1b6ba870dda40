"""A video in, the next action out: what a store of the same video would have said."""

from __future__ import annotations

from dataclasses import dataclass
from math import ceil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from predict_kitchen import (
    GAP_S,
    Kitchen,
    extracted,
    frames,
    labels,
    require_same,
    taxonomy,
    trained,
)

from antcache.annotations import Segments
from antcache.extract import ExtractConfig, extract, find_videos, load_backbone
from antcache.extract.engines.video import RowMaker
from antcache.predict import Anticipator
from antcache.predict.held import HeldRows
from antcache.store import Store
from antcache.student.runs.place import read_config
from antcache.student.runs.predicting import TrainedStudent


@dataclass(frozen=True)
class Case:
    """A stream, and a student on it."""

    backbone: str
    settings: dict[str, Any]
    student: dict[str, Any]


CASES = {
    "vectors": Case("vit", {}, {}),
    "float32, avth": Case(
        "vit",
        {"dtype": "float32", "fps": 7.5},
        {"head": "avth", "layers": 1, "heads": 2, "width": 16},
    ),
    "clips": Case("videomae", {"fps": 3.0, "clip_fps": 8.0}, {"num_frames": 3, "rate": 1.0}),
    "int8 tokens": Case(
        "vit",
        {"dtype": "int8", "tokens": (1, 2, 2)},
        {"head": "probe", "heads": 2, "layers": 1, "num_frames": 2},
    ),
    "rows at windows": Case(
        "videomae",
        {"tokens": "full", "at": "windows", "gaps": (GAP_S,), "clip_fps": 8.0},
        {"head": "probe", "heads": 2, "layers": 1, "num_frames": 1},
    ),
    "windows of many rows at windows": Case(
        "vit",
        {"tokens": (1, 1, 1), "at": "windows", "gaps": (0.5, 1.0, 1.5)},
        {"num_frames": 3, "rate": 2.0},
    ),
    "before the end": Case("vit", {"fps": 5.0}, {"anchor": 1.0, "verb_noun_weight": 1.0}),
}


@pytest.fixture(scope="session", params=CASES)
def run(
    request: pytest.FixtureRequest, made: Kitchen, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Case, Path, Any]:
    """A case, its run, and the backbone."""
    case = CASES[request.param]
    backbone = load_backbone(request.getfixturevalue(case.backbone), device="cpu")
    stream = f"s{list(CASES).index(request.param)}"
    extracted(made, backbone, stream, **case.settings)
    folder = trained(made, tmp_path_factory.mktemp("runs") / stream, stream, **case.student)
    return case, folder, backbone


def by_store(
    path: Path, case: Case, run: Path, backbone: Any, times: list[float], folder: Path
) -> dict[float, np.ndarray]:
    """Scores by time, of those that a store of the video has a window for."""
    store = Store.create(folder / "s.zarr")
    store.write_splits(
        {"any": labels({path.stem: 4.0}, {path.stem: 0})}, taxonomy(), source="a test"
    )
    config = read_config(run)
    at = np.asarray(times) + GAP_S
    begin, stop = (at - 1.0, at) if config.window.anchor == 1.0 else (at, at + 1.0)
    none = np.full(len(times), -1)
    asked = Segments.of(
        uid=[f"t{i:04}" for i in range(len(times))],
        video=[path.stem] * len(times),
        start_s=begin,
        stop_s=stop,
        verb=none,
        noun=none,
        action=none,
    )
    settings = ExtractConfig(**case.settings, stream=config.data.stream[0])
    listed = asked if settings.at == "windows" else None
    extract(find_videos(path), store, backbone, settings, segments=listed)
    found = TrainedStudent(store, run, device="cpu", allow_missing=True).predict(asked, split="t")
    scores = found.scores - np.logaddexp.reduce(found.scores, axis=1, keepdims=True)
    return {times[int(uid[1:])]: row for uid, row in zip(found.uid, scores, strict=True)}


@pytest.mark.parametrize("name", ["even.mp4", "odd.mkv"])
def test_equals_a_store_of_the_video(run, made, name, tmp_path):
    """Every time that has a window in a store has the same answer here, and no other has one."""
    case, folder, backbone = run
    times = [0.0, 0.02, 0.3, 0.5, 1.0, 1.51, 2.0, 3.3, 4.04, 5.0, 7.77, 9.0, 9.9, 11.96, 12.1, 50.0]
    wanted = by_store(made.folder / name, case, folder, backbone, times, tmp_path)
    assert len(wanted) > 7
    anticipator = Anticipator.load(folder, backbone=backbone, device="cpu")
    found = anticipator.predict(made.folder / name, at=times)
    assert found.times_s.tolist() == sorted(wanted)
    np.testing.assert_allclose(
        found.scores, np.stack([wanted[t] for t in found.times_s]), atol=1e-5
    )
    without = {each.time_s: each.reason for each in found.unanswered}
    assert sorted(without) == sorted(set(times) - set(wanted))
    assert "after the end" in without[50.0]
    assert np.ptp(found.scores[:, 0]) > 1e-3  # the answers differ


def test_multiples_of_a_step_are_those_times(run, made):
    """From the first at which something was seen to the last frame, in parts of any length."""
    _, folder, backbone = run
    anticipator = Anticipator.load(folder, backbone=backbone, device="cpu")
    path = made.folder / "odd.mkv"
    stepped = anticipator.predict(path, every=0.3)
    asked = [k * 0.3 for k in range(40)]
    listed = anticipator.predict(path, at=[time for time in asked if time <= stepped.last_s])
    assert not stepped.unanswered
    assert len(stepped) > 25
    np.testing.assert_array_equal(stepped.times_s, listed.times_s)
    np.testing.assert_allclose(stepped.scores, listed.scores, atol=1e-6)
    assert stepped.times_s[-1] + 0.3 > stepped.last_s > 9.5


def test_frames_one_by_one_say_the_same(run, made):
    """A stream of pictures, as of a camera: of constant and of variable rate."""
    case, folder, backbone = run
    anticipator = Anticipator.load(folder, backbone=backbone, device="cpu")
    tolerance = 1e-5 if case.settings.get("dtype") == "float32" else 2e-3
    path = made.folder / ("even.mp4", "odd.mkv")[list(CASES.values()).index(case) % 2]
    found = anticipator.stream(frames(path), every=0.5, top=4)
    require_same(found, anticipator.each(path, every=0.5, top=4), tolerance)


def test_what_nobody_asks_about_is_neither_made_nor_held(run, made, monkeypatch):
    """Rows before the first window and after the last time; and of a long video, old ones."""
    case, folder, backbone = run
    anticipator = Anticipator.load(folder, backbone=backbone, device="cpu")
    rows, held = [], []
    make, let_go = RowMaker.made, HeldRows.let_go
    monkeypatch.setattr(RowMaker, "made", lambda self, x: rows.append(len(x)) or make(self, x))
    monkeypatch.setattr(
        HeldRows, "let_go", lambda self, oldest: held.append(len(self)) or let_go(self, oldest)
    )
    path = made.folder / "even.mp4"
    whole = anticipator.predict(path, every=0.5)
    all_rows, most = sum(rows), max(held, default=0)
    size = anticipator.make.recipe.pixels.batch_size
    protocol = anticipator.protocol
    if case.settings.get("at") != "windows":
        fps = anticipator.make.stream.fps
        assert most <= size + (protocol.observed_s + 1) * fps
        assert all_rows == int(whole.last_s * fps + 1e-6) + 1
    rows.clear()
    one = anticipator.predict(path, at=[4.0])
    if case.settings.get("at") == "windows":
        assert sum(rows) == protocol.num_frames
    else:
        batches = ceil(protocol.observed_s * fps / size) + 1
        assert sum(rows) <= min(all_rows, batches * size)
    np.testing.assert_allclose(one.scores[0], whole.scores[whole.times_s == 4.0][0], atol=1e-6)
    assert np.isnan(one.last_s) or one.last_s == whole.last_s
