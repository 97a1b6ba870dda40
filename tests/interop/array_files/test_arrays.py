"""Files of arrays: in, out, and in again; their times, their faults, and what sees the future."""

from __future__ import annotations

import json
import os
import re
import zipfile
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import scipy.io
import torch
from click.testing import CliRunner, Result

from antcache.cli.main import cli
from antcache.errors import AlreadyExists, BadConfig, FingerprintMismatch, MissingKey, NotFound
from antcache.interop.array_files.config import ArraysImportConfig
from antcache.interop.array_files.exporting import export_arrays
from antcache.interop.array_files.finding import find_arrays
from antcache.interop.array_files.forms import FORMS
from antcache.interop.array_files.importing import ArraysReport, import_arrays, plan_arrays
from antcache.interop.lmdb.exporting import export_lmdb
from antcache.store import Store
from antcache.store.local.ledger import Ledger

DIM = 5
RNG = np.random.default_rng(0)
ODD = np.array([-0.0, 1e-45, 3.4e38, 1.0, 0.1], np.float32)
"""Values that no arithmetic would reproduce."""


def rows_of(count: int, dtype: Any = np.float32) -> Any:
    rows = RNG.normal(size=(count, DIM)).astype(dtype)
    if dtype is np.float32:
        rows[0] = ODD
    return rows


def save(path: Path, array: Any, name: str = "features", **more: Any) -> Path:
    """A file of the form that its ending says."""
    path.parent.mkdir(parents=True, exist_ok=True)
    arrays = {name: array, **more}
    match path.suffix:
        case ".npy":
            np.save(path, array)
        case ".npz":
            np.savez(path, **arrays)
        case ".pt":
            torch.save({k: torch.from_numpy(np.array(v)) for k, v in arrays.items()}, path)
        case ".mat":
            scipy.io.savemat(path, arrays)
    return path


def bring(store: Store, folder: Path, **settings: Any) -> ArraysReport:
    settings = {"dim": DIM, "fps": 4.0, **settings}
    return import_arrays(plan_arrays(folder, store, ArraysImportConfig(**settings)), store)


def run(*args: object) -> Result:
    return CliRunner().invoke(cli, [str(a) for a in args])


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store.create(tmp_path / "s.zarr")


def bits(array: Any) -> bytes:
    return bytes(np.ascontiguousarray(array).tobytes())


# Times


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


# In


@pytest.mark.parametrize("form", FORMS)
def test_each_form_comes_in_bit_for_bit(store: Store, tmp_path: Path, form: str) -> None:
    there = {"a": rows_of(7), "b": rows_of(DIM + 1)}
    save(tmp_path / f"in/a.{form}", there["a"])
    save(tmp_path / f"in/day1/b.MP4.{form}", there["b"].T)  # (dim, rows)
    report = bring(store, tmp_path / "in")
    assert report.written == ("a", "b")
    assert report.plan.files.note == (
        "1 of 2 videos are called as antcache extract calls them: b.MP4 is b"
    )
    for video, rows in there.items():
        assert bits(store.features("rgb", video).read()) == bits(rows)
    attributes = [store.backend.open(f"features/rgb/{v}")[1] for v in "ab"]
    assert [a["layout"] for a in attributes] == ["rows-first", "dim-first"]
    assert report.rows == 7 + DIM + 1


def test_a_bare_tensor(store: Store, tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    rows = rows_of(3)
    torch.save(torch.from_numpy(rows), tmp_path / "in/a.pt")
    assert bring(store, tmp_path / "in").written == ("a",)
    assert bits(store.features("rgb", "a").read()) == bits(rows)


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64, ">f4"])
@pytest.mark.parametrize("stored", ["float16", "float32"])
def test_types(store: Store, tmp_path: Path, dtype: Any, stored: str) -> None:
    rows = RNG.normal(size=(3, DIM)).astype(dtype)
    save(tmp_path / "in/a.npy", rows)
    bring(store, tmp_path / "in", dtype=stored)
    found = store.features("rgb", "a").read()
    assert found.dtype == stored
    assert bits(found) == bits(rows.astype(stored))


@pytest.mark.parametrize("form", ["npz", "pt", "mat"])
def test_one_of_several_arrays(store: Store, tmp_path: Path, form: str) -> None:
    rgb, flow = rows_of(3), rows_of(3)
    save(tmp_path / f"in/a.{form}", rgb, "rgb", flow=flow)
    (failure,) = bring(store, tmp_path / "in").failed
    assert "no array 'features' among rgb, flow; `key` names the one to take" in failure.error
    assert not store.streams()  # which settings are wrong may yet be said
    for key, rows in (("rgb", rgb), ("flow", flow)):
        bring(store, tmp_path / "in", key=key, stream=key)
        assert bits(store.features(key, "a").read()) == bits(rows)
    (failure,) = bring(store, tmp_path / "in", key="depth", stream="depth").failed
    assert "no array 'depth' among rgb, flow" in failure.error


def test_a_square_needs_a_layout(store: Store, tmp_path: Path) -> None:
    square = rows_of(DIM)
    save(tmp_path / "in/a.npy", square)
    save(tmp_path / "in/b.npy", rows_of(3).T)
    report = bring(store, tmp_path / "in")
    assert report.written == ("b",)
    assert "(5, 5) (say how arrays lie: `layout`)" in report.failed[0].error
    done = run("import", "arrays", tmp_path / "in", store.path, "--dim", DIM, "--fps", 4)
    assert done.exit_code == 1
    assert "found (5, 5) (say how arrays lie: `layout`)" in done.stderr
    report = bring(store, tmp_path / "in", layout="dim-first")  # of the same stream
    assert report.written == ("a",)
    assert bits(store.features("rgb", "a").read()) == bits(square.T)
    assert not Ledger(store.path).read()
    (failure,) = bring(store, tmp_path / "in", layout="rows-first", stream="x").failed
    assert re.search(r"expected \(rows, 5\), found \(5, 3\)$", failure.error)


def test_the_same_command_does_what_is_missing(store: Store, tmp_path: Path) -> None:
    save(tmp_path / "in/a.npy", rows_of(3))
    save(tmp_path / "in/b.npy", rows_of(3)[:, :-1])
    first = bring(store, tmp_path / "in")
    assert (first.written, [f.video for f in first.failed]) == (("a",), ["b"])
    (entry,) = Ledger(store.path).read()
    assert entry == first.failed[0]
    assert "expected (rows, 5) or (5, rows), found (3, 4)" in entry.error
    plan = plan_arrays(tmp_path / "in", store, ArraysImportConfig(dim=DIM, fps=4))
    assert plan.failed_before == {"b": entry.error}
    save(tmp_path / "in/b.npy", rows_of(4))
    again = bring(store, tmp_path / "in")
    assert (again.written, again.failed, again.plan.done) == (("b",), (), frozenset("a"))
    assert not Ledger(store.path).path.exists()
    assert bring(store, tmp_path / "in").written == ()


def test_settings_are_the_fingerprint(store: Store, tmp_path: Path) -> None:
    save(tmp_path / "in/a.npy", rows_of(3))
    bring(store, tmp_path / "in")
    for settings in ({"fps": 5}, {"time": "middle"}, {"dtype": "float16"}, {"key": "x"}):
        with pytest.raises(FingerprintMismatch, match=next(iter(settings))):
            bring(store, tmp_path / "in", **settings)
    bring(store, tmp_path / "in", fps=4)  # a whole number is the same rate
    windows = {"fps": None, "stride": 2, "window": 4}
    bring(store, tmp_path / "in", stream="x", video_fps=30, **windows)
    bring(store, tmp_path / "in", stream="x", video_fps=30.0, **windows)
    (tmp_path / "in").rename(tmp_path / "other")
    with pytest.raises(FingerprintMismatch, match="source: 'in' -> 'other'"):
        bring(store, tmp_path / "other")
    (tmp_path / "other").rename(tmp_path / "in")
    save(tmp_path / "in/a.npy", rows_of(4))
    with pytest.raises(FingerprintMismatch, match=r"rgb/a in the store came from another file"):
        bring(store, tmp_path / "in")


def test_a_video_that_another_process_has_is_left_to_it(store: Store, tmp_path: Path) -> None:
    for video in "ab":
        save(tmp_path / f"in/{video}.npy", rows_of(3))
    plan = plan_arrays(tmp_path / "in", store, ArraysImportConfig(dim=DIM, fps=4))
    bring(store, tmp_path / "in", layout="rows-first")
    store.remove("features/rgb/b")
    report = import_arrays(plan, store)
    assert (report.written, report.elsewhere) == (("b",), ("a",))


def test_names(store: Store, tmp_path: Path) -> None:
    folder = tmp_path / "in"
    for name in ("a.npy", "x/a.npz", "y/b,c.npy", "café.npy", "d.NPY", ".hidden.npy", ".h/e.npy"):
        save(folder / name, rows_of(2)) if name != "d.NPY" else None
    np.save(folder / "d.npy", rows_of(2))
    (folder / "d.npy").rename(folder / "d.NPY")
    (folder / "notes.txt").touch()
    (tmp_path / "outside").mkdir()
    save(tmp_path / "outside/f.npy", rows_of(2))
    (folder / "link").symlink_to(tmp_path / "outside")
    files = find_arrays(folder)
    assert list(files.videos) == ["café", "d"]
    assert {path.name: error.message for path, (_, error) in files.refused.items()}.keys() == {
        *("a.npy", "a.npz", "b,c.npy")
    }
    assert files.passed_over == (f"{folder}: passed over 2 hidden, 1 .txt, 1 links to folders")
    report = bring(store, folder)
    assert report.written == ("café", "d")
    assert sorted(f.video for f in Ledger(store.path).read()) == ["a", "a", "b,c"]
    wrong = " ".join(f.error for f in report.failed)
    assert "2 files would be the video 'a'" in wrong
    assert "not a name for a video" in wrong
    (folder / "x/a.npz").unlink()
    (folder / "y/b,c.npy").unlink()
    assert bring(store, folder).written == ("a",)
    assert not Ledger(store.path).path.exists()


def test_a_name_that_the_stream_has_stays(store: Store, tmp_path: Path) -> None:
    save(tmp_path / "in/a.mp4.npy", rows_of(2))
    stream = plan_arrays(tmp_path / "in", None, ArraysImportConfig(dim=DIM, fps=4)).stream
    fields = ("dim", "dtype", "fps", "source", "config")
    store.create_stream("rgb", **{k: getattr(stream, k) for k in fields})
    size = (tmp_path / "in/a.mp4.npy").stat().st_size
    store.write_features("rgb", "a.mp4", rows_of(2), attributes={"file_bytes": size})
    assert bring(store, tmp_path / "in").plan.done == {"a.mp4"}


@pytest.mark.parametrize("there", [False, True])
def test_nothing_there(tmp_path: Path, there: bool) -> None:
    if there:
        (tmp_path / "in").mkdir()
        (tmp_path / "in/a.mp4").touch()
    message = r"no arrays here: expected files of \.npy.*1 \.mp4" if there else "no such folder"
    with pytest.raises(NotFound, match=message):
        plan_arrays(tmp_path / "in", None, ArraysImportConfig(dim=DIM, fps=4))
    done = run("import", "arrays", tmp_path / "in", tmp_path / "s", "--dim", 5, "--fps", 4)
    assert done.exit_code == 2
    assert not (tmp_path / "s").exists()


# Faults


class Effect:
    """Whoever loads this leaves a file."""

    def __reduce__(self) -> Any:
        return os.mkdir, ("effect",)


def bomb(path: Path) -> None:
    """An archive that unpacks to a thousand times its size."""
    with (
        zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive,
        archive.open("features.npy", "w", force_zip64=True) as file,
    ):
        for _ in range(1 << 10):
            file.write(bytes(1 << 20))


def header(text: str) -> bytes:
    data = text.encode() + b"\n"
    return b"\x93NUMPY\1\0" + len(data).to_bytes(2, "little") + data


HOSTILE: dict[str, tuple[str, Any, str]] = {
    "objects": ("a.npy", np.array([Effect()] * DIM, dtype=object), "other values than numbers"),
    "objects in npz": ("a.npz", np.array([Effect()], dtype=object), "other values than numbers"),
    "whole numbers": ("a.npy", np.zeros((3, DIM), np.int32), "another type: .*found int32"),
    "truths": ("a.npz", np.zeros((3, DIM), bool), "another type: .*found bool"),
    "complex": ("a.npy", np.zeros((3, DIM), complex), "another type: .*found complex128"),
    "text": ("a.npy", np.full((3, DIM), "x"), "another type"),
    "long": ("a.npy", np.zeros((3, DIM), np.longdouble), "another type"),
    "nan": ("a.npy", np.array([[0.0] * DIM, [np.nan] * DIM]), "not finite: found row 1"),
    "inf": ("a.mat", np.array([[np.inf] * DIM]), "not finite: found row 0"),
    "too large": ("a.pt", np.array([[1e39] * DIM]), "float32 can't hold: found row 0$"),
    "three axes": ("a.npy", np.zeros((1, 3, DIM)), r"another shape: .*\(1, 3, 5\)"),
    "one axis": ("a.npy", np.zeros(DIM), r"another shape: .*found \(5,\)"),
    "no rows": ("a.npy", np.zeros((0, DIM)), r"another shape: .*found \(0, 5\)"),
    "a huge shape": (
        "a.npy",
        header("{'descr': '<f4', 'fortran_order': False, 'shape': (9999999999999, 5)}"),
        "with 0 bytes",
    ),
    "a pickle": ("a.npy", b"\x80\x04N.", "no array of numpy"),
    "cut off": ("a.npz", b"PK\3\4abc", "not a zip file"),
    "no tensor": ("a.pt", b"\x80\x04K\1.", "a int, neither a tensor nor a dictionary"),
    "no MATLAB": ("a.mat", b"hello", "no file of MATLAB"),
    "empty": ("a.npy", b"", "empty"),
    "pointer": (
        "a.pt",
        b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n",
        "Git LFS pointer",
    ),
}


@pytest.mark.parametrize("kind", [*HOSTILE, "a code", "a bomb", "a pipe"])
def test_a_hostile_file_fails_alone(
    store: Store, tmp_path: Path, monkeypatch: Any, kind: str
) -> None:
    (tmp_path / "work").mkdir()
    monkeypatch.chdir(tmp_path / "work")
    save(tmp_path / "in/good.npy", rows_of(3))
    if kind == "a code":
        name, message = "a.pt", "more than arrays and plain values: found .*mkdir"
        torch.save({"features": Effect()}, tmp_path / "in" / name)
    elif kind == "a bomb":
        name, message = "a.npz", "that unpack to 1073741824"
        bomb(tmp_path / "in" / name)
    elif kind == "a pipe":
        name, message = "a.npy", "no regular file"
        os.mkfifo(tmp_path / "in" / name)
    else:
        name, content, message = HOSTILE[kind]
        if isinstance(content, bytes):
            (tmp_path / "in" / name).write_bytes(content)
        else:
            save(tmp_path / "in" / name, content)
    report = bring(store, tmp_path / "in")
    assert report.written == ("good",)
    (failure,) = report.failed
    assert re.search(message, failure.error), failure.error
    assert str(tmp_path / "in" / name) in failure.error
    assert "\n" not in failure.error
    assert not list((tmp_path / "work").iterdir())
    assert Ledger(store.path).read() == [failure]


def test_float16_that_can_not_hold_a_value(store: Store, tmp_path: Path) -> None:
    save(tmp_path / "in/a.npy", np.full((2, DIM), 1e5, np.float32))
    (failure,) = bring(store, tmp_path / "in", dtype="float16").failed
    assert "values that float16 can't hold: found row 0 (--dtype float32)" in failure.error


# Out, and in again


def listed(stream: Any) -> dict[str, Any]:
    """Settings that bring an exported stream back."""
    return {"time": "listed", "fps": stream.fps, "sees_ahead_s": stream.sees_ahead_s}


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("layout", ["rows-first", "dim-first"])
@pytest.mark.parametrize("backend", ["zarr", "hdf5"])
def test_round_trip_is_exact(tmp_path: Path, form: str, layout: str, backend: str) -> None:
    first = Store.create(tmp_path / "first", backend=backend)
    source = {"dim": DIM, "dtype": "float32", "fps": 30 / 7, "source": "made", "config": {}}
    first.create_stream("rgb", **source)
    first.write_features("rgb", "P01_1", rows_of(8), start_s=0.1)
    first.write_features("rgb", "a b-c", rows_of(1), start_s=61 / 30)
    late = np.array([0.1, 1 / 3, 7.0, 1e4])
    first.write_features("rgb", "café", rows_of(4), times=late)
    report = export_arrays(first, "rgb", tmp_path / "out", form=form, layout=layout)
    assert (report.videos, report.rows, report.form) == (3, 13, form)
    second = Store.create(tmp_path / "second")
    done = bring(second, tmp_path / "out", **listed(first.stream("rgb")))
    assert done.written == ("P01_1", "a b-c", "café")
    assert not done.failed
    for video in done.written:
        old, new = (s.features("rgb", video) for s in (first, second))
        assert bits(old.read()) == bits(new.read())
        np.testing.assert_array_equal(old.seconds, new.seconds)
        assert (old.times is None) == (new.times is None)
    assert [p.name for p in tmp_path.iterdir() if p.name.startswith(".")] == []


@pytest.mark.parametrize("form", FORMS)
def test_float16_comes_back(store: Store, tmp_path: Path, form: str) -> None:
    save(tmp_path / "in/a.npy", rows_of(3, np.float16))
    bring(store, tmp_path / "in", dtype="float16")
    export_arrays(store, "rgb", tmp_path / "out", form=form)
    bring(store, tmp_path / "out", stream="x", dtype="float16", **listed(store.stream("rgb")))
    assert bits(store.features("x", "a").read()) == bits(store.features("rgb", "a").read())


def test_others_read_what_is_written(store: Store, tmp_path: Path) -> None:
    rows = rows_of(3)
    save(tmp_path / "in/a.npy", rows)
    bring(store, tmp_path / "in", time="middle")
    for form in FORMS:
        export_arrays(store, "rgb", tmp_path / form, form=form)
    times, ahead = np.array([0.125, 0.375, 0.625]), 0.125
    found: dict[str, Any] = {
        "npz": np.load(tmp_path / "npz/a.npz"),
        "mat": scipy.io.loadmat(tmp_path / "mat/a.mat"),
        "pt": torch.load(tmp_path / "pt/a.pt", weights_only=True),
    }
    for each in found.values():
        assert bits(np.asarray(each["features"])) == bits(rows)
        np.testing.assert_array_equal(np.asarray(each["times"]).ravel(), times)
        assert float(np.asarray(each["sees_ahead_s"]).item()) == ahead
    assert bits(np.load(tmp_path / "npy/a.npy")) == bits(rows)
    np.testing.assert_array_equal(np.load(tmp_path / "npy/a.times.npy"), times)
    assert sorted(p.name for p in (tmp_path / "npy").iterdir()) == ["a.npy", "a.times.npy"]


@pytest.mark.parametrize(
    ("times", "message"),
    [
        (None, "no array 'times'"),
        ([0.0, 1.0], "times that are not those of its rows: .*float64 \\(2,\\)"),
        ([0.0, 2.0, 1.0], "do not ascend"),
        ([0.0, 1.0, np.nan], "do not ascend"),
        ([[0.0, 1.0, 2.0]] * 2, "not those of its rows"),
        (["a", "b", "c"], "not those of its rows"),
    ],
)
def test_listed_times_are_checked(store: Store, tmp_path: Path, times: Any, message: str) -> None:
    more = {} if times is None else {"times": np.array(times)}
    save(tmp_path / "in/a.npz", rows_of(3), **more)
    (failure,) = bring(store, tmp_path / "in", time="listed", sees_ahead_s=0).failed
    assert re.search(message, failure.error), failure.error


def test_a_npy_without_its_times(store: Store, tmp_path: Path) -> None:
    save(tmp_path / "in/a.npy", rows_of(3))
    (failure,) = bring(store, tmp_path / "in", time="listed", sees_ahead_s=0).failed
    assert re.search(r"in/a\.times\.npy: can't be read: found No such file", failure.error)


def test_times_in_a_pipe_are_not_waited_for(store: Store, tmp_path: Path) -> None:
    save(tmp_path / "in/a.npy", rows_of(3))
    os.mkfifo(tmp_path / "in/a.times.npy")
    (failure,) = bring(store, tmp_path / "in", time="listed", sees_ahead_s=0).failed
    assert "no regular file" in failure.error


def test_an_export_replaces_nothing(store: Store, tmp_path: Path) -> None:
    save(tmp_path / "in/a.npy", rows_of(3))
    with pytest.raises(MissingKey, match="no stream 'rgb'"):
        export_arrays(store, "rgb", tmp_path / "out")
    bring(store, tmp_path / "in")
    (tmp_path / "out").mkdir()
    (tmp_path / "out/mine").touch()
    with pytest.raises(AlreadyExists, match="something is already here"):
        export_arrays(store, "rgb", tmp_path / "out")
    assert [p.name for p in (tmp_path / "out").iterdir()] == ["mine"]
    for wrong in ({"form": "csv"}, {"layout": "columns"}):
        with pytest.raises(BadConfig, match=r"unknown (form|layout)"):
            export_arrays(store, "rgb", tmp_path / "new", **wrong)
    assert not (tmp_path / "new").exists()


def test_two_files_of_one_name_are_refused(store: Store, tmp_path: Path) -> None:
    for video in ("a", "a.times"):
        save(tmp_path / f"in/{video}.npz", rows_of(3))
    bring(store, tmp_path / "in")
    with pytest.raises(BadConfig, match=r"two files would be called 'a.times.npy'"):
        export_arrays(store, "rgb", tmp_path / "out")
    assert not (tmp_path / "out").exists()


# The commands


def test_the_commands(store: Store, tmp_path: Path) -> None:
    save(tmp_path / "in/a.npy", rows_of(4))
    save(tmp_path / "in/b.npy", rows_of(4)[:, 1:])
    windows = ("--stride", 16, "--window", 32, "--video-fps", 30)
    words = ("import", "arrays", tmp_path / "in", store.path, "--dim", DIM, *windows)
    planned = run(*words, "--dry-run", "--json")
    assert planned.exit_code == 0, planned.stderr
    assert json.loads(planned.stdout)["to_do"] == ["a", "b"]
    assert not store.streams()
    done = run(*words)
    assert done.exit_code == 1
    assert "stream rgb: 1 videos written (4 rows, " in done.stdout
    assert "5 wide, windows of 32 frames every 16 at 30 fps, end times" in done.stdout
    assert f"failed: {tmp_path}/in/b.npy: an array of another shape" in done.stderr
    again = run(*words, "--json")
    assert again.exit_code == 1
    found = json.loads(again.stdout)
    assert (found["written"], found["skipped"], found["sees_ahead_s"]) == ([], ["a"], 0.0)
    assert [f["video"] for f in found["failed"]] == ["b"]
    assert "b failed before" in run(*words, "--dry-run").stdout
    out = run("export", "arrays", store.path, "--stream", "rgb", "-o", tmp_path / "out")
    assert out.exit_code == 0, out.stderr
    (line,) = re.findall(r"note: antcache (import arrays .*) brings them back", out.stderr)
    back = run(*line.replace("STORE", str(tmp_path / "new.h5")).split())
    assert back.exit_code == 0, back.stderr
    new = Store.open(tmp_path / "new.h5").features("rgb", "a")
    assert bits(new.read()) == bits(store.features("rgb", "a").read())
    np.testing.assert_array_equal(new.seconds, store.features("rgb", "a").seconds)


def test_the_future_is_said(store: Store, tmp_path: Path) -> None:
    save(tmp_path / "in/a.npy", rows_of(4, np.float16))
    words = ("import", "arrays", tmp_path / "in", store.path, "--dim", DIM)
    done = run(*words, "--fps", 4, "--time", "middle")
    assert done.exit_code == 0
    assert "Warning: rows of rgb have seen 0.125 s after their times" in done.stderr
    assert store.stream("rgb").sees_ahead_s == 0.125
    assert "0.125 s of what follows seen" in store.stream("rgb").source
    assert (
        run("store", "convert", store.path, tmp_path / "copy.h5", "--dtype", "float16").exit_code
        == 0
    )
    assert Store.open(tmp_path / "copy.h5").stream("rgb").sees_ahead_s == 0.125
    pytest.importorskip("lmdb")
    with pytest.raises(BadConfig, match=r"can't say that rows have seen the future.* 0\.125 s"):
        export_lmdb(store, "rgb", tmp_path / "lmdb")
    assert not (tmp_path / "lmdb").exists()


def test_tokens_are_not_exported(tmp_path: Path) -> None:
    store = Store.create(tmp_path / "store")
    store.create_stream("t", dim=2, dtype="float16", fps=4, source="x", config={}, grid=(1, 1, 1))
    store.write_features("t", "v", np.zeros((3, 1, 2), np.float16))
    with pytest.raises(BadConfig, match="features/t: these files hold one vector a row"):
        export_arrays(store, "t", tmp_path / "out")
    assert not (tmp_path / "out").exists()
