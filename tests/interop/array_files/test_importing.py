"""Files of arrays come in, bit for bit; the same command goes on."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from array_folders import DIM, RNG, bits, bring, rows_of, run, save

from antcache.errors import FingerprintMismatch, NotFound
from antcache.interop.array_files.config import ArraysImportConfig
from antcache.interop.array_files.finding import find_arrays
from antcache.interop.array_files.forms import FORMS
from antcache.interop.array_files.importing import import_arrays, plan_arrays
from antcache.store import Store
from antcache.store.local.ledger import Ledger


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
