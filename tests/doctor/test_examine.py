"""The doctor: a healthy store gives no finding, and windows that lack features are named."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner
from toy_store import ANNOTATIONS, FPS, ROWS, TRAIN, WINDOW, MakeStore, kinds, only

from antcache.annotations import read_annotations, sample_windows
from antcache.cli.main import cli
from antcache.doctor.examination import DoctorConfig, examine
from antcache.errors import MissingFeature
from antcache.store import Store
from antcache.windows.index import WindowIndex, stream_features


@pytest.mark.parametrize("kind", ["zarr", "hdf5"])
@pytest.mark.parametrize("compressed", [False, True])
def test_a_healthy_store_has_nothing(make: MakeStore, kind: str, compressed: bool) -> None:
    report = examine(make(kind, compressed=compressed))
    assert report.ok
    assert report.findings == ()
    train, validation = report.windows
    assert (train.segments, train.windows, train.dropped) == (20, 18, {"too_early": 2})
    assert (validation.segments, validation.windows) == (10, 9)
    # The last segment starts at 27 s: its window ends at 26 s, row 104.
    need = validation.videos[0]
    assert (need.needs_s, need.needs_rows, need.has_s, need.has_rows) == (26.0, 105, 29.75, 120)
    # Frames lie at every half second from 0.5 to 26 s: every other row.
    assert validation.rows_needed == len(range(2, 105, 2))
    stream = report.streams[0]
    assert (stream.videos, stream.absent, stream.rows) == (3, 0, 360)
    assert (stream.non_finite, stream.zero, stream.repeated, stream.longest_run_s) == (0, 0, 0, 0)
    assert [(t.split, t.found, t.absent) for t in report.targets] == [
        ("train", 18, 0),
        ("validation", 0, 9),
    ]


def test_an_absent_video(make: MakeStore) -> None:
    report = examine(make(v2=None))
    finding = only(report, "no_features")
    assert finding.missing
    assert finding.where == "rgb, train"
    assert finding.videos == ("v2",)
    assert "9 of 20 segments" in finding.text
    assert "v2 (9: needs up to 26.0 s, row 104, is absent)" in finding.text
    assert report.streams[0].absent == 1
    assert report.windows[0].dropped == {"too_early": 2, "no_features": 9}


def test_features_that_end_too_early(make: MakeStore) -> None:
    """Rows up to 19.75 s: the windows that end at 20, 23 and 26 s lack some."""
    report = examine(make(v1=ROWS[:80], v2=ROWS[:104]), DoctorConfig(splits=("train",)))
    assert kinds(report) == ["short_features", "annotations_end_later"]
    missing, note = report.findings
    assert missing.videos == ("v1", "v2")
    assert "4 of 20 segments, in 2 videos" in missing.text
    assert "v1 (3: needs up to 26.0 s, row 104, has up to 19.8 s, row 79)" in missing.text
    assert "v2 (1: needs up to 26.0 s, row 104, has up to 25.8 s, row 103)" in missing.text
    assert not note.missing
    assert "v1 (to 30.0 s, features to 20.0 s)" in note.text
    assert examine(Store.open(report.store), DoctorConfig(splits=("validation",))).ok


def test_what_is_dropped_is_what_training_refuses(make: MakeStore) -> None:
    store = make(v1=ROWS[:80])
    with pytest.raises(MissingFeature, match="3 of 20 segments"):
        WindowIndex.build(stream_features(store, "rgb", TRAIN), TRAIN, WINDOW)
    assert sum(examine(store).windows[0].videos[0].lacking.values()) == 3


def test_a_video_without_rows(make: MakeStore) -> None:
    finding = only(examine(make(v2=ROWS[:0])), "no_features")
    assert "v2 (9: needs up to 26.0 s, row 104, has no rows)" in finding.text


def test_a_gap_between_listed_times(make: MakeStore) -> None:
    """Nothing between 10 and 15 s."""
    times = np.arange(120) / FPS
    assert examine(make(v3={"times": times})).findings == ()
    kept = (times < 10) | (times >= 15)
    store = make(v3={"rows": ROWS[kept], "times": times[kept]})
    finding = only(examine(store), "gap_in_features")
    assert finding.missing
    assert finding.where == "rgb, validation"
    assert "3 of 10 segments, in 1 videos: v3 (3: up to 5.25 s between rows)" in finding.text
    store.set_gap_rule("rgb", step_s=None, max_age_s=6.0)  # now an older row may stand in
    assert examine(store).findings == ()


def test_a_store_without_features(tmp_path: Path) -> None:
    store = Store.create(tmp_path / "empty")
    assert only(examine(store, annotations=ANNOTATIONS), "no_streams").missing


def test_another_protocol(make: MakeStore) -> None:
    store = make(v1=ROWS[:106])  # up to 26.25 s
    assert "short_features" not in kinds(examine(store))
    report = examine(store, DoctorConfig(protocol=replace(WINDOW, gap_s=0.5)))
    assert kinds(report)[0] == "short_features"
    report = examine(store, DoctorConfig(protocol=replace(WINDOW, gap_s=40.0)))
    assert kinds(report)[:2] == ["no_windows", "no_windows"]
    assert not report.ok


def test_progress_counts_the_bytes(make: MakeStore) -> None:
    seen: list[tuple[str, float, float]] = []
    examine(make(), progress=lambda *call: seen.append(call))
    assert seen[-1] == ("MB", 3 * ROWS.nbytes / 1e6, 3 * ROWS.nbytes / 1e6)


def run(*arguments: object) -> Any:
    return CliRunner().invoke(cli, ["store", "doctor", *map(str, arguments)])


def test_command(make: MakeStore, tmp_path: Path) -> None:
    healthy, sick = make(), make(v2=None)
    result = run(healthy.path)
    assert (result.exit_code, result.stderr) == (0, "")
    assert "can serve these windows: nothing missing, 0 notes" in result.stdout
    result = run(sick.path)
    assert result.exit_code == 1
    assert "missing: rgb, train: 9 of 20 segments" in result.stdout
    result = run(sick.path, "--json")
    assert result.exit_code == 1
    found = json.loads(result.stdout)
    assert found == json.loads(json.dumps(examine(sick).to_dict()))
    assert (found["ok"], found["findings"][0]["videos"]) == (False, ["v2"])
    assert run(sick.path, "--split", "validation").exit_code == 0
    assert run(healthy.path, "--gap", "40").exit_code == 1
    for anchor, words in (("start", "the action"), ("end", "the end of the action")):
        result = run(healthy.path, "--anchor", anchor)
        assert f"1 s before {words}" in " ".join(result.stdout.split())
    for bad in (
        ("--split", "test"),
        ("--stream", "flow"),
        ("--targets", "nobody"),
        ("--fps", 30),
        ("--rate", 0),
        ("--annotations", "table", tmp_path / "nope"),
        ("--annotations", "nope", tmp_path),
    ):
        result = run(healthy.path, *bad)
        assert result.exit_code == 2, bad
        assert len(result.stderr.strip().splitlines()) == 1
    assert run(make(labels=False).path).exit_code == 2
    folder = tmp_path / "annotations"
    folder.mkdir()
    lines = [f"t{i},v1,{3 * i},{3 * i + 3},take,pan" for i in range(10)]
    header = "uid,video,start,stop,verb,noun"
    (folder / "train.csv").write_text("\n".join([header, *lines]))
    result = run(make(labels=False).path, "--annotations", "table", folder, "--name", "toy")
    assert result.exit_code == 0, result.output


def test_no_torch_is_needed() -> None:
    code = "import sys, antcache.doctor.examination, antcache.cli.store.doctor; print(*sys.modules)"
    loaded = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    ).stdout.split()
    assert "antcache.doctor.examination" in loaded
    assert "torch" not in loaded


@pytest.mark.parametrize("kind", ["zarr", "hdf5"])
def test_every_video_of_epic_kitchens_55(tmp_path: Path, data_dir: Path, kind: str) -> None:
    """The real annotations, and features as long as the real videos: nothing is missing."""
    import pandas as pd

    folder = data_dir / "epic-kitchens-55"
    dataset = read_annotations("epic-kitchens-55", folder)
    seconds = pd.read_csv(folder / "EPIC_video_info.csv").set_index("video")["duration"]
    store = Store.create(tmp_path / "store", backend=kind)
    store.create_stream("rgb", dim=4, dtype="float16", fps=4, source="a test", config={})
    rng = np.random.default_rng(0)
    for video in (v for segments in dataset.splits.values() for v in segments.videos):
        rows = rng.normal(size=(int(seconds[video] * 4) + 1, 4)).astype(np.float16)
        store.write_features("rgb", video, rows)
    report = examine(store, annotations=dataset)
    assert report.findings == ()
    assert [(r.split, r.windows, r.dropped, r.padded) for r in report.windows] == [
        ("train", 23_430, {"too_early": 63}, 364),
        ("validation", 4_969, {"too_early": 10}, 65),
    ]


def test_windows_are_those_of_the_anchor(make: MakeStore) -> None:
    """What is too early, and until when rows are needed, is counted back from there."""
    store = make()
    for anchor in (0.0, 1.0):
        protocol = replace(WINDOW, anchor=anchor)
        report = examine(store, DoctorConfig(protocol=protocol))
        for part in report.windows:
            segments = store.labels(part.split)
            expected = sample_windows(segments.start_s, protocol, segments.stop_s)
            due = protocol.reference_s(segments.start_s, segments.stop_s) - protocol.gap_s
            assert part.windows + sum(part.dropped.values()) == len(segments)
            assert part.dropped.get("too_early", 0) == (~expected.kept).sum()
            needed = max(need.needs_s for need in part.videos)
            assert needed == pytest.approx(due[expected.kept].max(), abs=1 / 30)
