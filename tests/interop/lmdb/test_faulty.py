"""LMDBs that are not what an import takes: refused, in words that name what is wrong."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from frame_lmdbs import DENSE, DIM, FOUR_FPS, Values, bring, run, values_of, write

from antcache.errors import BadConfig, FingerprintMismatch, NotFound
from antcache.interop.lmdb.features import scan
from antcache.interop.lmdb.importing import import_lmdb, plan_lmdb
from antcache.store import Store


def replaced(changes: dict[str, bytes]) -> Callable[[Values], Values]:
    return lambda values: values | {os.fsencode(k): v for k, v in changes.items()}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (replaced({"a.jpg": b"1234"}), r"a key of another form.*found a\.jpg"),
        (replaced({"v_frame_0000000000.jpg": b"1234"}), "n from 1, found v_frame_0000000000"),
        (replaced({"v_frame_00000000001.jpg": b"1234"}), "another form"),
        (replaced({"v_frame_0000000001.png": b"1234"}), "another form"),
        (replaced({"v_frame_0000000001.jpg\n": b"1234"}), "another form"),
        (replaced({"\udce9_frame_0000000001.jpg": b"1234"}), r"another form.*\\xe9_frame"),
        (replaced({"a?b_frame_0000000001.jpg": b"1234"}), r"not a name for a video.*'a\?b'"),
        (replaced({"a_frame_0000000002.jpg": b"12345"}), "no row of float32.*multiple of 4.*5"),
        (replaced({"a_frame_0000000002.jpg": b""}), "no row of float32.*found 0"),
        (replaced({"v_frame_0000000002_frame_0000000001.jpg": b"1234"}), "do not lie side by side"),
    ],
)
def test_faulty_keys_are_refused_before_anything_is_written(
    tmp_path: Path, change: Callable[[Values], Values], message: str
) -> None:
    path = write(tmp_path / "rgb", change(values_of({"v": [1, 2, 3]})))
    result = run("import", "lmdb", tmp_path / "s.zarr", f"rgb={path}")
    assert result.exit_code == 2, result.output
    assert len(result.stderr.strip().splitlines()) == 1
    with pytest.raises(BadConfig, match=message) as error:
        scan(path)
    assert str(path) in str(error.value)
    assert not (tmp_path / "s.zarr").exists()


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (b"12345678", r"row of c_frame_0000000002\.jpg has another width.*expected 5, found 2"),
        (b"123456789", r"c_frame_0000000002\.jpg is no row of float32.*found 9"),
    ],
)
def test_a_faulty_row_leaves_earlier_videos(
    store: Store, tmp_path: Path, value: bytes, message: str
) -> None:
    values = values_of({"b": DENSE, "c": DENSE, "d": DENSE})
    path = write(tmp_path / "rgb", replaced({"c_frame_0000000002.jpg": value})(values))
    with pytest.raises(BadConfig, match=message):
        bring(store, rgb=path)
    assert store.videos("rgb") == ["b"]
    assert store.backend.damaged_parts("features/rgb/b") == []


@pytest.mark.parametrize("frames", [DENSE[:-1], DENSE[DENSE != 150], [*DENSE[:-1], 400], [1]])
def test_an_lmdb_that_changes_meanwhile(store: Store, tmp_path: Path, frames: Any) -> None:
    plans = plan_lmdb({"rgb": write(tmp_path / "rgb", values_of({"v": DENSE}))}, store)
    shutil.rmtree(tmp_path / "rgb")
    write(tmp_path / "rgb", values_of({"v": frames}))
    with pytest.raises(BadConfig, match="v: the LMDB was changed meanwhile"):
        import_lmdb(plans, store)
    assert store.videos("rgb") == []


def test_what_is_no_lmdb(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    for path in (tmp_path / "nope", tmp_path / "folder"):
        with pytest.raises(NotFound, match="no LMDB here"):
            scan(path)
    for name, content in (("text", b"x" * 9000), ("blank", b"")):
        (tmp_path / name).write_bytes(content)
        with pytest.raises(BadConfig, match="can't be opened as an LMDB"):
            scan(tmp_path / name)
    write(tmp_path / "empty", {})
    with pytest.raises(NotFound, match="is empty"):
        scan(tmp_path / "empty")
    whole = write(tmp_path / "whole", values_of({"v": range(1, 2000)}))
    scan(whole)
    with (whole / "data.mdb").open("r+b") as file:
        file.truncate(50_000)
    with pytest.raises(BadConfig, match=r"cut off.*expected .* bytes, found 50000"):
        scan(whole)


def test_other_settings_or_another_lmdb_are_refused(store: Store, tmp_path: Path) -> None:
    path = write(tmp_path / "rgb", values_of({"v": DENSE}))
    bring(store, rgb=path)
    with pytest.raises(FingerprintMismatch, match="dtype: 'float32' -> 'float16'"):
        bring(store, rgb=path, config={"dtype": "float16"})
    with pytest.raises(FingerprintMismatch, match=r"key_fps: 30\.0 -> 60\.0"):
        bring(store, rgb=path, config={"key_fps": 60})
    with pytest.raises(FingerprintMismatch, match="source: 'rgb' -> 'flow'"):
        bring(store, rgb=write(tmp_path / "flow", values_of({"w": DENSE})))
    (tmp_path / "b").mkdir()
    other = write(tmp_path / "b/rgb", values_of({"v": DENSE[:-1], "w": FOUR_FPS}))
    with pytest.raises(FingerprintMismatch, match=r"rgb/v in the store has other rows.*300 rows"):
        bring(store, rgb=other)
    (tmp_path / "c").mkdir()
    more = write(tmp_path / "c/rgb", values_of({"w": FOUR_FPS}))
    (report,) = bring(store, rgb=more)  # the rest of the same features, at another rate
    assert report.written == ("w",)
    np.testing.assert_array_equal(store.features("rgb", "w").times, FOUR_FPS / 30)
    store.create_stream("made", dim=DIM, dtype="float32", fps=4, source="x", config={})
    with pytest.raises(FingerprintMismatch, match="importer"):
        bring(store, made=path)
