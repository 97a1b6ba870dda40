"""What is written comes in again, and others read it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import scipy.io
import torch
from array_folders import DIM, bits, bring, rows_of, save

from antcache.errors import AlreadyExists, BadConfig, MissingKey
from antcache.interop.array_files.exporting import export_arrays
from antcache.interop.array_files.forms import FORMS
from antcache.store import Store


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


def test_too_much_for_the_form_is_refused(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As SciPy says it once 4 GiB are written."""

    def full(*_: Any, **__: Any) -> None:
        raise scipy.io.matlab.MatWriteError("Matrix too large to save with Matlab 5 format")

    save(tmp_path / "in/a.npy", rows_of(3))
    bring(store, tmp_path / "in")
    monkeypatch.setattr(scipy.io, "savemat", full)
    with pytest.raises(BadConfig, match=r"Matrix too large .* \(--form npz\)"):
        export_arrays(store, "rgb", tmp_path / "out", form="mat")
    assert not (tmp_path / "out").exists()


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


def test_tokens_are_not_exported(tmp_path: Path) -> None:
    store = Store.create(tmp_path / "store")
    store.create_stream("t", dim=2, dtype="float16", fps=4, source="x", config={}, grid=(1, 1, 1))
    store.write_features("t", "v", np.zeros((3, 1, 2), np.float16))
    with pytest.raises(BadConfig, match="features/t: these files hold one vector a row"):
        export_arrays(store, "t", tmp_path / "out")
    assert not (tmp_path / "out").exists()
