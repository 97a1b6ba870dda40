"""A file that can't be taken fails alone, in one line."""

from __future__ import annotations

import os
import re
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from array_folders import DIM, bring, rows_of, save

from antcache.store import Store
from antcache.store.local.ledger import Ledger


class Effect:
    """Whoever loads this leaves a file."""

    def __reduce__(self) -> Any:
        return os.mkdir, ("effect",)


def bomb(path: Path) -> None:
    """An archive that unpacks to two hundred times its size."""
    with (
        zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive,
        archive.open("features.npy", "w", force_zip64=True) as file,
    ):
        for _ in range(1 << 9):
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
        name, message = "a.npz", "that unpack to 536870912"
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
