"""The commands, and what sees the future."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import pytest
from array_folders import DIM, bits, rows_of, run, save

from antcache.errors import BadConfig
from antcache.interop.lmdb.exporting import export_lmdb
from antcache.store import Store


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
