"""The doctor on streams of tokens: what is in their rows, and which windows rows are kept for."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner

from antcache.annotations import Protocol, Segments, Taxonomy
from antcache.cli.main import cli
from antcache.doctor.examination import DoctorConfig, examine
from antcache.doctor.report import DoctorReport
from antcache.doctor.rows import run_s, scan_rows
from antcache.store import Store
from antcache.store.integrity.info import describe

TAXONOMY = Taxonomy(
    dataset="toy",
    verbs=("take",),
    nouns=("pan",),
    actions=("take_pan",),
    action_verbs=(0,),
    action_nouns=(0,),
)
SEGMENTS = Segments.of(
    uid=["a", "b", "c"],
    video=["v1", "v1", "v2"],
    start_s=[2.0, 4.0, 3.0],
    stop_s=[3.0, 6.0, 5.0],
    verb=[0] * 3,
    noun=[0] * 3,
    action=[0] * 3,
)
GRID, DIM = (2, 1, 2), 3
K = 4
AT = {"anchors": [0.0, 1.0], "gaps": [1.0, 0.25]}
WINDOW = Protocol(gap_s=1.0, num_frames=10, rate=1.0)
TIMES = {
    "v1": np.array([1.0, 1.75, 2.0, 2.75, 3.0, 3.75, 5.0, 5.75]),
    "v2": np.array([2.0, 2.75, 4.0, 4.75]),
}


def write(path: Path, kind: str, times: dict[str, Any], dtype: str = "int8", **at: Any) -> Store:
    store = Store.create(path, backend=kind)
    store.write_labels("train", SEGMENTS, TAXONOMY, source="a test")
    settings: dict[str, Any] = {"dim": DIM, "fps": 8.0, "source": "x", "config": {}}
    store.create_stream("t", dtype=dtype, grid=GRID, at={**AT, **at}, **settings)
    rng = np.random.default_rng(0)
    for video, own in times.items():
        rows = rng.normal(size=(len(own), K, DIM)).astype(np.float16)
        store.write_features("t", video, rows, times=own)
    return store


def examined(store: Store, **window: Any) -> DoctorReport:
    own = {"gap_s": WINDOW.gap_s, "num_frames": 1, "rate": 1.0, **window}
    return examine(store, DoctorConfig(protocol=Protocol(**own)))


@pytest.fixture(params=["zarr", "hdf5"])
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def test_every_kept_window_has_its_row(tmp_path: Path, kind: str) -> None:
    report = examined(write(tmp_path / "store", kind, TIMES))
    assert report.findings == ()
    assert {(part.window, part.segments, part.windows) for part in report.windows} == {
        ("1 s before the action", 3, 3),
        ("0.25 s before the action", 3, 3),
        ("1 s before the end of the action", 3, 3),
        ("0.25 s before the end of the action", 3, 3),
    }
    assert all(part.lacking == () for part in report.windows)


def test_windows_of_several_frames_have_no_rows(tmp_path: Path, kind: str) -> None:
    """Training on them is refused, so the doctor does not say that they can be served."""
    (found,) = examined(write(tmp_path / "store", kind, TIMES), num_frames=10).findings
    assert (found.kind, found.missing, found.where) == ("not_kept", True, "t")
    assert found.text.startswith("windows of 10 frames need rows before their last")


def test_it_is_said_which_segments_of_which_window_have_no_row(tmp_path: Path, kind: str) -> None:
    """5.75 s is that of b, a quarter of a second before its end; 2 s that of c before its start."""
    times = {"v1": TIMES["v1"][:-1], "v2": TIMES["v2"][1:]}
    report = examined(write(tmp_path / "store", kind, times))
    lacking = {part.window: part.lacking for part in report.windows if part.lacking}
    assert lacking == {
        "1 s before the action": ("c",),
        "0.25 s before the end of the action": ("b",),
    }
    assert [(f.kind, f.where, f.missing, f.videos) for f in report.findings] == [
        ("not_kept", "t, train, 1 s before the action", True, ("v2",)),
        ("not_kept", "t, train, 0.25 s before the end of the action", True, ("v1",)),
    ]
    assert "1 of 3 segments, in 1 videos: v2 (1)" in report.findings[0].text


def test_a_video_without_rows_is_said_once_for_each_anchor(tmp_path: Path, kind: str) -> None:
    report = examined(write(tmp_path / "store", kind, {"v1": TIMES["v1"]}))
    assert {(f.kind, f.videos) for f in report.findings} == {("no_features", ("v2",))}
    assert [f.where for f in report.findings] == [
        "t, train, 0.25, 1 s before the action",
        "t, train, 0.25, 1 s before the end of the action",
    ]
    assert "v2 (1: needs up to 2.0 s, is absent)" in report.findings[0].text


@pytest.mark.parametrize("window", [{"gap_s": 0.5}, {"anchor": 0.5}])
def test_windows_that_no_row_is_kept_for(tmp_path: Path, window: dict[str, Any]) -> None:
    report = examined(write(tmp_path / "store", "zarr", TIMES), **window)
    (finding,) = report.findings
    assert (finding.kind, finding.missing, finding.where) == ("not_kept", True, "t")
    assert finding.text.endswith("those 0.25, 1 s before the action, the end of the action")


def test_rows_of_tokens_at_a_rate_are_examined_as_others(tmp_path: Path, kind: str) -> None:
    store = Store.create(tmp_path / "store", backend=kind)
    store.write_labels("train", SEGMENTS, TAXONOMY, source="a test")
    store.create_stream("t", dim=DIM, dtype="float16", fps=4, source="x", config={}, grid=GRID)
    rows = np.random.default_rng(0).normal(size=(28, K, DIM)).astype(np.float16)
    rows[4, 2, 1] = np.nan  # at 1 s, where the first window ends
    store.write_features("t", "v1", rows)
    store.write_features("t", "v2", rows[:2])
    report = examined(store)
    assert [f.kind for f in report.findings if f.missing] == ["short_features", "non_finite"]
    assert [f.kind for f in report.findings if not f.missing] == [
        "annotations_end_later",
        "non_finite_rows",
    ]
    assert report.streams[0].non_finite == 1


@pytest.mark.parametrize("dtype", ["float16", "float32", "int8"])
@pytest.mark.parametrize("block_bytes", [1, 1 << 20])
def test_scan_against_plain_numpy(
    tmp_path: Path, dtype: str, block_bytes: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("antcache.doctor.rows.BLOCK_BYTES", block_bytes)
    rng = np.random.default_rng(1)
    rows = rng.integers(0, 2, (100, K, DIM)) * rng.integers(0, 3, (100, 1, 1))
    store = Store.create(tmp_path / "store")
    store.create_stream("t", dim=DIM, dtype=dtype, fps=4, source="x", config={}, grid=GRID)
    if dtype == "int8":  # -128 and 0 are numbers; a scale of 0 makes nothing of any
        values = rng.integers(0, 2, rows.shape).astype(np.int8) * np.int8(-128)
        scale = rng.integers(0, 3, (100, K)).astype(np.float16)
        values[40:45], scale[40:45] = values[40], 1
        values[60:63] = values[60]
        scale[60:63] = np.array([1, 2, 3])[:, None]
        values[70], scale[80] = 0, 0
        store.write_features("t", "v", values, scale=scale)
    else:
        rows = rows.astype(dtype)
        rows[5, 1, 2], rows[6, 3, 0], rows[20:24] = np.nan, -np.inf, 1
        store.write_features("t", "v", rows)
    features = store.features("t", "v")
    found, read = features.read(), []
    scan = scan_rows(features, read.append)
    flat = found.reshape(100, -1)
    np.testing.assert_array_equal(scan.non_finite, np.flatnonzero(~np.isfinite(flat).all(axis=1)))
    zero = (flat == 0).all(axis=1)
    np.testing.assert_array_equal(scan.zero, np.flatnonzero(zero))
    stored = [features.rows[:], *([features.scale[:]] if features.scale is not None else [])]
    bits = [b"".join(array[i].tobytes() for array in stored) for i in range(100)]
    same = [i > 0 and bits[i] == bits[i - 1] and not zero[i] for i in range(100)]
    assert scan.repeated == sum(same) > 0
    assert sum(read) == features.rows[:].nbytes


def test_how_long_rows_are_alike_is_told_by_their_times(tmp_path: Path) -> None:
    store = write(tmp_path / "store", "zarr", {}, dtype="float16")
    rows = np.random.default_rng(0).normal(size=(5, K, DIM)).astype(np.float16)
    rows[2] = rows[3] = rows[1]
    store.write_features("t", "v1", rows, times=np.array([0.0, 1.0, 4.0, 4.5, 9.0]))
    features = store.features("t", "v1")
    scan = scan_rows(features, [].append)
    assert (scan.run, scan.run_at, run_s(features, scan)) == (3, 1, 3.5)


def test_command(tmp_path: Path) -> None:
    store = write(tmp_path / "store", "zarr", {**TIMES, "v1": TIMES["v1"][:-1]})
    result = CliRunner().invoke(cli, ["store", "doctor", str(store.path)])
    assert result.exit_code == 1, result.output
    assert "t, train, 0.25 s before the end of the action" in result.stdout
    result = CliRunner().invoke(cli, ["store", "doctor", str(store.path), "--json"])
    windows = json.loads(result.stdout)["windows"]
    assert {part["window"]: part["lacking"] for part in windows if part["lacking"]} == {
        "0.25 s before the end of the action": ["b"]
    }


def test_info(tmp_path: Path, kind: str) -> None:
    store = write(tmp_path / "store", kind, TIMES)
    store.create_stream("rgb", dim=DIM, dtype="float16", fps=4, source="x", config={})
    own = {"grid": GRID, "future": (0.25, 1.0), "pooled_from": (2, 2, 4)}
    store.create_stream("f", dim=DIM, dtype="float32", fps=4, source="x", config={}, **own)
    found = describe(store)
    assert found["format"] == 2
    tokens = found["features"]["t"]
    rows = sum(map(len, TIMES.values()))
    assert (tokens["rows"], tokens["hours"], tokens["grid"]) == (rows, None, list(GRID))
    assert tokens["bytes"] == rows * (K * DIM + 2 * K)
    assert tokens["at"] == AT
    assert found["features"]["f"]["bytes"] == 0
    assert math.isclose(found["features"]["rgb"]["hours"], 0.0)
    assert "grid" not in found["features"]["rgb"]
    result = CliRunner().invoke(cli, ["store", "info", str(store.path)])
    assert result.exit_code == 0, result.output
    assert "2x1x2 + 2 ahead" in result.stdout
    assert "None" not in result.stdout
    assert "t: rows where windows end, 1, 0.25 s before the action and the end" in result.stdout


def test_rows_need_not_lie_on_annotated_frames(tmp_path: Path) -> None:
    """A row for the very end of a window serves it, though windows of rates end on a frame."""
    late = replace(SEGMENTS, start_s=SEGMENTS.start_s + 0.01, stop_s=SEGMENTS.stop_s + 0.01)
    store = write(tmp_path / "store", "zarr", {v: times + 0.01 for v, times in TIMES.items()})
    store.write_labels("train", late, TAXONOMY, source="a test", overwrite=True)
    assert examined(store).findings == ()
    store.remove("features/t/v2")
    store.write_features("t", "v2", np.ones((4, K, DIM), np.float16), times=TIMES["v2"] + 0.02)
    assert {(f.kind, f.videos) for f in examined(store).findings if f.missing} == {
        ("not_kept", ("v2",))
    }


def test_many_gaps_are_a_line_for_each_anchor(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With the spans of their counts, and no line of a table longer than a terminal is wide."""
    gaps = [0.25, 0.75, 1.0, 1.25, 1.75]
    lengths = SEGMENTS.stop_s - SEGMENTS.start_s
    times = {}
    for video in ("v1", "v2"):
        own = SEGMENTS.video == video
        ends = SEGMENTS.start_s[own, None] + lengths[own, None] * [0.0, 1.0]
        times[video] = np.unique(ends[..., None] - gaps)
    times["v1"] = times["v1"][times["v1"] != 4.0 - 0.75]  # of b before its start
    times["v2"] = times["v2"][1:]  # of c, 1.75 s before its start
    store = write(tmp_path / "store", "zarr", times, gaps=gaps)
    found = examined(store).findings
    assert [(f.where, f.text) for f in found] == [
        (
            "t, train, 0.75, 1.75 s before the action",
            "1 of 3 segments, in 2 videos: v1 (1), v2 (1)",
        )
    ]
    monkeypatch.setenv("COLUMNS", "80")
    result = CliRunner().invoke(cli, ["store", "doctor", str(store.path), "--gap", "0.5"])
    lines = result.stdout.splitlines()
    start = lines.index("Windows of t: 5 gaps of 0.25 to 1.75 s before an anchor")
    table = [line.split() for line in lines[start + 1 : start + 7] if line.strip(" ─")]
    assert table == [
        ["split,", "anchor", "segments", "windows", "padded", "not", "kept"],
        ["train,", "start", "3", "2", "to", "3", "0", "0", "to", "1"],
        ["train,", "end", "3", "3", "0", "0"],
    ]
    assert max(map(len, lines[start : start + 7])) <= 80
    said = "those 5 gaps of 0.25 to 1.75 s before the action, the end of the action"
    assert sum(line.endswith(said) for line in lines) == 1
